"""Without the extra [run] the base meters, exports, examines and watches; every other command names what to install."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

from workload.cli import app, run_command_line
from workload.errors import MissingExtraError, MissingPartError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Runs command lines, one after the other, in a process that lacks some packages.
BASE = """
import json, sys
from importlib.abc import MetaPathFinder

absent, lines = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in absent:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Absent())
from workload.cli import run_command_line
print(json.dumps([run_command_line(line) for line in lines]), flush=True)
"""


def closure(texts: list[str]) -> set[str]:
    """Return the names of distributions that requirements bring, those of their requirements included."""
    found: set[str] = set()
    for wanted in map(Requirement, texts):
        name = canonicalize_name(wanted.name)
        if name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            found |= {name, *closure([text for text in metadata.requires(name) or () if "extra ==" not in text])}
    return found


def absent_from(distributions: set[str]) -> list[str]:
    """Return the top-level modules of all other distributions that are installed here, ours aside."""
    kept = {*distributions, canonicalize_name(DECLARED["name"])}
    packages = metadata.packages_distributions()
    return sorted(top for top, names in packages.items() if not {*map(canonicalize_name, names)} & kept)


def in_the_base(*lines: list[str]) -> tuple[list[int], str]:
    """Return the exit codes of command lines where only the base is installed, and what they wrote to stderr."""
    absent = absent_from(closure(DECLARED["dependencies"]))
    assert {"numpy", "torch", "langgraph"} < {*absent}
    arguments = [sys.executable, "-c", BASE, json.dumps(absent), json.dumps(lines)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd="/", check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def command_lines(command: Any, *words: str) -> Iterator[list[str]]:
    """Yield the words of each command below one."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield [*words]
    else:
        for name, one in inner.items():
            yield from command_lines(one, *words, name)


def test_every_command_explains_itself() -> None:
    """Whoever has only the base can read what there is; no command loads what it needs to say so."""
    lines = [[*words, "--help"] for words in command_lines(get_command(app))]
    assert len(lines) > 15
    assert in_the_base(*lines) == ([0] * len(lines), "")


def test_the_doctor_works_and_what_runs_names_what_to_install() -> None:
    """A traceback about numpy tells nobody that an extra is missing."""
    doctor = ["doctor", "--vllm-endpoint", "http://127.0.0.1:9", "--prometheus-url", "http://127.0.0.1:9"]
    needy = [["run", "latency"], ["run", "kv-cache"], ["ask", "Why?"], ["soak"], ["dashboards", "/dev/null"]]
    codes, said = in_the_base(doctor, *needy)
    assert codes == [4, *[3] * len(needy)]
    errors = said.strip().splitlines()
    assert len(errors) == len(needy)
    assert all("not installed. Install it: pip install" in line and "[run]" in line for line in errors), errors


def test_outside_a_checkout_commands_for_one_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installed package has no compose files and no recordings; a traceback would not say that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workload.compose.configs.FOLDER", tmp_path / "prometheus")
    monkeypatch.setattr("workload.commands.demo.asset", lambda name: tmp_path / name)
    for line in (["compose", "configs"], ["compose", "pin-digests"], ["demo"]):
        assert run_command_line(line) in {2, 3}
        (said,) = capsys.readouterr().err.strip().splitlines()
        assert "checkout" in said or "repository" in said
    assert [*tmp_path.iterdir()] == []


class Installed:
    """A distribution that was installed from somewhere."""

    def __init__(self, origin: dict[str, Any] | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        """Return what pip has noted about the origin."""
        return json.dumps(self.origin) if self.origin and name == "direct_url.json" else None


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, "hop2rag-observatory[run]"),
        ({"url": "file:///d/a.whl", "archive_info": {}}, "hop2rag-observatory[run] @ file:///d/a.whl"),
        (
            {"url": "https://host/a", "vcs_info": {"vcs": "git", "commit_id": "0"}},
            "hop2rag-observatory[run] @ git+https://host/a",
        ),
    ],
)
def test_an_extra_comes_from_where_the_project_came(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None, requirement: str
) -> None:
    """An index may have another project of that name; each line is one that pip accepts."""
    monkeypatch.setattr("workload.errors.distribution", lambda _: Installed(origin))
    error = MissingExtraError("It needs more.", "run")
    assert isinstance(error, MissingPartError)
    assert str(error) == f'It needs more. Install it: pip install "{requirement}"'
    assert Requirement(requirement).extras == {"run"}
