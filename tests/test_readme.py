"""The README is executed: what it names must exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from workload.cli import app
from workload.engine.profile import PROFILES
from workload.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "docs" / "README.zh-CN.md").read_text()
SERVED = {"python": "python", "model": "m", "served_model_name": "m"}
COMMANDS = dict.fromkeys(re.findall(r"`(hop2rag (?!-)[^`]*)`", README + CHINESE))
COLUMNS = re.compile(
    r"^\| `(?P<name>[a-z-]+)` \| (?P<question>.*) \| `(?P<folder>[a-z_]+)/`(?P<files>[^|]*)\|$", re.MULTILINE
)


def find_command(words: list[str]) -> Any:
    """Return the command that the words lead to; a word that is no command is an argument."""
    found = get_command(app)
    for word in words:
        commands = getattr(found, "commands", None)
        if commands is None:
            break
        found = commands[word]
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command: str) -> None:
    """A reader types what the README says."""
    for part in command.split(", "):
        words = part.removeprefix("hop2rag ").split()
        assert find_command(words) is not None


def test_every_flag_exists() -> None:
    """A flag that was renamed must not live on in the README."""
    commands = [find_command([name]) for name in find_command([]).commands]
    parameters = [parameter for command in commands for parameter in command.params]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {flag for profile in PROFILES.values() for flag in profile.argv("0.32.0", **SERVED)}
    named = set(re.findall(r"`(--[a-z-]+)", README))
    assert named
    assert named <= known


def test_every_experiments_command_is_accepted() -> None:
    """A reader copies these commands with their flags; each is parsed here, without being run."""
    block = README.split("## Experiments")[1].split("```sh\n")[1].split("```")[0]
    commands = [line.split()[1:] for line in block.splitlines()]
    assert {words[1] for words in commands} == set(EXPERIMENTS)
    for words in commands:
        context = find_command(words[:1]).make_context("run", list(words[1:]))
        assert context.params["experiment"] == words[1]


def test_the_plan_is_mapped_to_the_same_commands() -> None:
    """`docs/plan.md` maps to the README's commands, each once."""
    block = README.split("## Experiments")[1].split("```sh\n")[1].split("```")[0]
    plan = (ROOT / "docs" / "plan.md").read_text()
    assert sorted(re.findall(r"`(hop2rag run [^`]+)`", plan)) == sorted(block.splitlines())


def test_the_table_lists_the_experiments() -> None:
    """One name per thing: the README's row is the CLI's argument and the results' folder."""
    rows = {match["name"]: match["folder"] for match in COLUMNS.finditer(README)}
    commands = {name: name for name in ("ab", "optimize")}  # their arms are typed, so they are no fixed experiments
    assert rows == {name: experiment.folder for name, experiment in EXPERIMENTS.items()} | commands


def test_the_table_asks_what_the_experiments_ask() -> None:
    """The question of the README's row is the title of the figure and of the report."""
    questions = {match["name"]: match["question"].partition(" (")[0] for match in COLUMNS.finditer(README)}
    assert {name: questions[name] for name in EXPERIMENTS} == {name: one.title for name, one in EXPERIMENTS.items()}


def test_the_chinese_guide_covers_every_command_and_figure() -> None:
    """Who reads only this page must find how each picture is read, and each command that the README has."""
    pictures = [name for match in COLUMNS.finditer(README) for name in re.findall(r"\w+\.png", match["files"])]
    assert len(pictures) > len(EXPERIMENTS)
    assert [name for name in pictures if name not in CHINESE] == []
    table = README.split("## Commands")[1].split("\n## ")[0]
    named = {command.split()[1] for command in re.findall(r"`(hop2rag [a-z]+)", table)}
    assert [name for name in sorted(named) if f"hop2rag {name}" not in CHINESE] == []
    block = README.split("## Experiments")[1].split("```sh\n")[1].split("```")[0]
    assert [line for line in block.splitlines() if f"`{line}`" not in CHINESE] == []


def folders_in(*parents: str) -> set[str]:
    """Return the folders below some of the repository's that are part of it; a moved one may leave its cache behind."""
    there = (path for parent in parents for path in (ROOT / parent).iterdir() if path.is_dir())
    kept = {
        str(path.relative_to(ROOT))
        for path in there
        if not path.name.startswith((".", "__")) and any(inner.name != "__pycache__" for inner in path.iterdir())
    }
    return kept - {"results", "dist", "build"}


def test_the_file_tree_is_the_tree() -> None:
    """A newcomer finds every folder that is named, and no folder is left unnamed, the packages' own included."""
    named, package = [], ""
    for indent, name in re.findall(r"^( *)([a-z_]+)/ ", README.split("## File tree")[1].split("```")[1], re.MULTILINE):
        package = package if indent else name
        named.append(f"{package}/{name}" if indent else name)
    assert sorted(named) == sorted(folders_in(".") | folders_in("exporter", "workload"))


def test_every_picture_is_there() -> None:
    """A broken picture is the first thing a visitor sees."""
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).stat().st_size > 10_000 for picture in pictures)


def test_a_section_that_the_makefile_names_is_there() -> None:
    """Whoever lacks a package on the first day is sent to it."""
    named = re.findall(r"See '([^']+)' in the README", (ROOT / "Makefile").read_text())
    assert named
    assert all(f"## {section}\n" in README for section in named)


def test_no_line_installs_what_no_index_has() -> None:
    """The project has no release: its name finds nothing, or another's package; and bare brackets fail in zsh."""
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("exporter/*.py"),
        *ROOT.glob("workload/**/*.py"),
    ]
    lines = [line for path in texts for line in path.read_text().splitlines() if "pip install" in line]
    assert lines
    assert not [line for line in lines if re.search(rf"pip install [^#`]*{name}", line)]
    assert not [line for line in lines if re.search(r"pip install [^\"'`]*\.\[", line)]
