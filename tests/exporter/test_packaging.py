"""What ships: a small lock file that agrees with the large one, and a container and a unit that run as `nobody`."""

from __future__ import annotations

import configparser
import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPORTER = ROOT / "exporter"


def pins(path: Path) -> dict[str, str]:
    """Return distribution -> version of a lock file."""
    lines = [line.rstrip(" \\").split("==") for line in path.read_text().splitlines() if line[:1].isalnum()]
    return {name.lower().replace("_", "-"): version for name, version in lines}


def test_the_exporters_lock_agrees_with_the_projects() -> None:
    """Tests run against the project's versions, so the image must contain the same ones."""
    project, exporter = pins(ROOT / "workload" / "requirements.lock"), pins(EXPORTER / "requirements.lock")
    assert {name: project.get(name) for name in exporter} == exporter


def test_the_exporters_lock_is_complete() -> None:
    """It is installed without dependency resolution: what it does not name is not there."""
    locked = pins(EXPORTER / "requirements.lock")
    for name in locked:
        for requirement in requires(name) or []:
            needed, _, marker = requirement.partition(";")
            if not marker.strip():
                distribution = re.split(r"[\s<>=!~\[(]", needed.strip())[0].lower().replace("_", "-")
                assert distribution in locked, f"{name} needs {distribution}"


@pytest.mark.parametrize(
    "promise",
    [
        r"^USER 65534:65534$",
        r"^HEALTHCHECK .*--timeout=",
        r"--no-deps --require-hashes -r exporter/requirements\.lock",
        r"^FROM python:\d+\.\d+\.\d+-slim",
    ],
)
def test_the_image_keeps_its_promises(promise: str) -> None:
    """A container that runs as root, or is built from whatever is newest, is found out only by an auditor."""
    dockerfile = (EXPORTER / "Dockerfile").read_text()
    assert re.search(promise, dockerfile, re.MULTILINE)
    assert ":latest" not in dockerfile


@pytest.mark.parametrize("package", ["exporter", "workload"])
def test_the_images_get_what_their_wheel_includes(package: str) -> None:
    """Hatchling ends the build of an image if a folder that the wheel includes was not copied, or was ignored."""
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    included = [*targets["wheel"]["packages"], *targets["wheel"]["force-include"]]
    dockerfile = (ROOT / package / "Dockerfile").read_text()
    assert [name for name in included if f"\nCOPY {name} {name}\n" not in dockerfile] == []
    assert {*included} <= {*targets["sdist"]["only-include"]}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert [name for name in included if name.split("/")[0] in ignored and f"!{name}" not in ignored] == []


def test_every_image_of_ours_has_the_version_in_its_tag() -> None:
    """After an upgrade an old tag would start the old image, which is there already."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = [*ROOT.glob("docker-compose*.yml"), *ROOT.glob("tests/compose/*.yml"), *ROOT.glob("*/kubernetes/*.yaml")]
    tags = [tag for file in files for tag in re.findall(r"image: hop2rag-[a-z-]+:(\S+)", file.read_text())]
    assert len(tags) > 6
    assert {*tags} == {version}


def test_the_unit_runs_unprivileged() -> None:
    """An exporter needs the driver and nothing else of the host."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXPORTER / "hop2rag-exporter.service")
    service = unit["Service"]
    assert (service["DynamicUser"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "yes", "strict")
    assert service["CapabilityBoundingSet"] == ""
    assert service["RestartPreventExitStatus"].split() == ["2", "3"]
