"""Every documented command of compose: its services exist, and ours get flags and variables that they understand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from workload.cli import run_command_line
from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "docker-compose.yml")
COMMAND = re.compile(r"docker compose +((?:[^\s`\"'|&;)]|\"[^\"]*\"|[ ](?=[^\s#`]))+)")
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
WITH_VALUE = {"-f", "-p", "--profile", "--name", "--env-file", "--wait-timeout", "--timeout", "--tail", "-e"}
STARTS = (
    "workload.harness.run.run_experiment",
    "workload.harness.resume.resume_settings",
    "workload.harness.ask.ask_once",
    "workload.soak.run.run_soak",
    "workload.soak.run.resumed",
)


def documented() -> Iterator[tuple[str, list[str]]]:
    """Yield each documented command, with the name of its document."""
    for document in DOCUMENTS:
        for found in COMMAND.findall(document.read_text()):
            yield document.name, shlex.split(found)


def split(words: list[str]) -> tuple[str, list[str], list[str]]:
    """Return the subcommand, the profiles, and the words after it without compose's own options."""
    profiles, rest = list[str](), iter(words)
    plain = list[str]()
    for word in rest:
        if word in WITH_VALUE:
            value = next(rest)
            profiles += [value] if word == "--profile" else []
        elif plain[1:] or not word.startswith("-"):
            plain.append(word)
            if plain[0] in {"run", "exec"} and len(plain) == 2:
                plain += rest  # the container's command, with options of its own
    return plain[0], profiles, plain[1:]


COMMANDS = sorted({(name, *split(words)[:1], shlex.join(words)) for name, words in documented()})


def test_commands_are_found() -> None:
    """The tests below pass for an empty list too."""
    assert {"up", "run", "exec", "logs", "down"} <= {subcommand for _, subcommand, _ in COMMANDS}


@pytest.mark.parametrize(("document", "subcommand", "command"), COMMANDS)
def test_its_services_exist(document: str, subcommand: str, command: str) -> None:
    """A service under a profile is started only where the command names either."""
    _, profiles, words = split(shlex.split(command))
    services = SERVICES | {"tempo": {}, "model": {}}
    known = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert set(profiles) <= known, document
    if subcommand in {"up", "run", "exec", "logs", "stop", "restart"}:
        named = words[:1] if subcommand in {"run", "exec"} else words
        assert set(named) <= services.keys(), document


@pytest.mark.parametrize(
    "command", sorted({command for _, subcommand, command in COMMANDS if subcommand == "run"} | {"run soak"})
)
def test_what_it_runs_understands_flags_and_variables(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: a flag that nobody gave was refused, because compose names the services that a soak would start."""
    _, _, (name, *arguments) = split(shlex.split(command))
    service = SERVICES[name]
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, DEFAULT.sub(r"\1", value))
    started = list[str]()
    for start in STARTS:

        def begin(*_: Any, start: str = start, **__: Any) -> None:
            started.append(start)
            raise UsageError("Enough.", "Nothing runs here.")

        monkeypatch.setattr(start, begin)
    defaults = [DEFAULT.sub(r"\1", str(word)) for word in service["command"]]
    assert run_command_line([*service.get("entrypoint", [""])[1:], *(arguments or defaults)]) == 2
    assert len(started) == 1
