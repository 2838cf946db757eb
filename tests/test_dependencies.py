"""What is installed is what is pinned, nothing is left to chance, and every licence goes together with ours."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.glob("[!.]*/**/*.lock"))}
# Its wheels come from several indexes, each with other bytes.
WITHOUT_HASHES = "workload/torch.lock"
OURS = ("workload/requirements.lock", "tests/requirements.lock", WITHOUT_HASHES)
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)")
# Permissive, or copyleft of single files (MPL-2.0): they put no condition on code that only imports them.
LICENCE = re.compile(
    r"Apache|MIT|BSD|ISC|Python Software Foundation|PSF|CNRI-Python|Mozilla Public License 2\.0|MPL-2\.0|Zlib|CC0|BSL-1"
)
REFUSED = re.compile(r"\b[AL]?GPL|Affero|SSPL|Commons Clause|Non.?Commercial|Proprietary|BUSL", re.IGNORECASE)
# Whose distribution does not say it; read in the package's own licence file.
TOLD_ELSEWHERE = {"promql-parser": "MIT"}


def pins(name: str) -> dict[str, Version]:
    """Return a lock's pins by canonical name."""
    found = [PIN.fullmatch(entry.split()[0]) for entry in entries(name)]
    assert found
    assert all(found), f"{name}: not every line is an exact pin"
    names = [canonicalize_name(match[1]) for match in found if match]
    assert len(names) == len(set(names)), f"{name}: a pin is there twice"
    return {canonicalize_name(match[1]): Version(match[2]) for match in found if match}


def entries(name: str) -> list[str]:
    """Return a lock's entries: a pin, perhaps a marker, and its hashes in one line."""
    lines = [line for line in LOCKS[name].read_text().splitlines() if line and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def locked_of_ours() -> dict[str, Version]:
    """Return what the project's own environment is made of."""
    return {name: version for lock in OURS for name, version in pins(lock).items()}


def licence_of(distribution: metadata.Distribution) -> str:
    """Return what a distribution says of its licence: an SPDX expression, classifiers, or a free text."""
    reported = distribution.metadata
    classifiers = [line for line in reported.get_all("Classifier") or [] if line.startswith("License ::")]
    return (
        reported.get("License-Expression") or "; ".join(classifiers) or (reported.get("License") or "").split("\n")[0]
    )


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_is_exact(name: str) -> None:
    """A range in a lock is another set of versions on every machine."""
    assert len(pins(name)) > (0 if name == WITHOUT_HASHES else 5)


def test_every_pin_carries_the_hashes_of_its_files() -> None:
    """A version is a name; whoever can put another file under it would run code on every machine that installs it."""
    assert WITHOUT_HASHES in LOCKS
    bare = {
        name: [entry.split()[0] for entry in entries(name) if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)]
        for name in LOCKS
    }
    assert {name: found for name, found in bare.items() if found} == {WITHOUT_HASHES: ["torch==2.13.0"]}


def test_every_installation_from_a_lock_wants_the_hashes() -> None:
    """Without the flag pip checks hashes only where a lock has some: one that lost them would be taken in silence."""
    files = [ROOT / "Makefile", *ROOT.glob("*/**/Dockerfile"), *ROOT.glob("*/**/*.service")]
    text = "\n".join(path.read_text() for path in files).replace("$(LOCKED)", "install --no-deps --require-hashes")
    lines = [line for line in text.splitlines() if re.search(r"-r \S+\.lock", line) and "pip-audit" not in line]
    assert len(lines) > 5
    wanting = [line for line in lines if "--require-hashes" not in line]
    assert all("torch.lock" in line for line in wanting), wanting


def test_what_builds_the_package_is_pinned() -> None:
    """A build runs its backend's code, so its version must be chosen, not the newest of the day."""
    (backend,) = map(Requirement, PROJECT["build-system"]["requires"])
    locked = pins("workload/build.lock")
    assert str(backend.specifier) == f"=={locked[canonicalize_name(backend.name)]}"
    assert "--no-build-isolation" in (ROOT / "Makefile").read_text()


def test_locks_of_one_environment_agree() -> None:
    """The one that is installed last would replace what the tests of the other pin."""
    locked, building = locked_of_ours(), pins("workload/build.lock")
    assert {name: locked[name] for name in building if name in locked} == {
        name: version for name, version in building.items() if name in locked
    }


def test_what_is_declared_is_pinned() -> None:
    """A requirement without a pin is whatever was newest on the day of the installation."""
    locked = locked_of_ours()
    groups = PROJECT["dependency-groups"]
    extras = PROJECT["project"]["optional-dependencies"]
    declared = (*PROJECT["project"]["dependencies"], *extras["run"], *extras["langgraph"], *groups["test"])
    for wanted in map(Requirement, (*declared, *groups["lint"])):
        if wanted.name == PROJECT["project"]["name"]:
            assert wanted.extras <= extras.keys()
            continue
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), wanted


def test_the_pins_are_complete() -> None:
    """What a dependency depends on runs here too, so it is pinned too."""
    locked = locked_of_ours()
    missing = {
        f"{name} needs {wanted}"
        for name in locked
        for wanted in map(Requirement, metadata.distribution(name).requires or ())
        if (wanted.marker is None or wanted.marker.evaluate({"extra": ""}))
        and canonicalize_name(wanted.name) not in locked
    }
    # pip's own installation has it, and nothing imports it at run time
    assert {line for line in missing if "needs setuptools" not in line} == set()


def test_what_is_installed_is_what_is_pinned() -> None:
    """Tests that pass on other versions than those which users get prove nothing for them."""
    other = {
        name: (str(version), found)
        for lock in OURS
        for name, version in pins(lock).items()
        if Version(found := metadata.version(name)).public != version.public
    }
    assert other == {}


def test_every_licence_goes_together_with_ours() -> None:
    """A strong copyleft or a non-commercial dependency would bind everybody who ships this project."""
    found = {
        name: TOLD_ELSEWHERE.get(name) or licence_of(metadata.distribution(name))
        for lock in OURS
        for name in pins(lock)
    }
    assert {name: text for name, text in found.items() if not LICENCE.search(text) or REFUSED.search(text)} == {}


def test_the_check_of_licences_sees_them() -> None:
    """A pattern that lets everything through would let this through."""
    for text in ("GNU General Public License v3 (GPLv3)", "LGPL-2.1", "AGPL-3.0", "CC-BY-NC: NonCommercial"):
        assert REFUSED.search(text), text
    assert not REFUSED.search("Apache-2.0 AND MIT")
    assert not LICENCE.search("")
