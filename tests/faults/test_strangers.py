"""Row 21: a run's folder of a stranger's. Nothing outside is read, written, deleted or started by it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.home import untouched
from tests.stubs.inputs import JSON_VALUES, answer, many
from tests.stubs.run import ACCOUNTING
from workload.cli import run_command_line
from workload.errors import Hop2RagError, UsageError
from workload.experiments.lookup import study_of
from workload.files import atomic_file
from workload.record.manifest import Manifest, manifest_in
from workload.report.past_run import open_run

if TYPE_CHECKING:
    from pathlib import Path


RUN = "evil"
NOWHERE = "http://127.0.0.1:1"
SIZES = {"limit": 1, "max_hops": 1, "k": 1}
WINDOW = {"arm": "prefix-off", "block": 0, "point": "c1", "segment": 0, "start": 1.0, "end": 2.0}
ENGINE = {"version": "0.32.0", "model": "m", "block_size": 16, "num_gpu_blocks": 10, "prefix_caching": False}
PART = {"window": WINDOW, "engine": ENGINE, "counters": {}, "accounting": ACCOUNTING}
COMMANDS = {
    "figures": ("figures", "--run", RUN, "--prometheus-url", NOWHERE),
    "export": ("export", "--run", RUN, "--prometheus-url", NOWHERE),
    "run --resume": ("run", "latency", "--resume", RUN, "--vllm-endpoint", NOWHERE),
    "run --replay": ("run", "latency", "--replay", RUN, "--vllm-endpoint", NOWHERE),
    "kv-cache --resume": ("run", "kv-cache", "--resume", RUN),
    "kv-cache --replay": ("run", "kv-cache", "--replay", RUN),
    "kv-cache --from-run": ("run", "kv-cache", "--from-run", RUN),
    "ab --resume": ("ab", "--resume", RUN, "--vllm-endpoint", NOWHERE),
    "ab --replay": ("ab", "--arm", "a", "--arm", "b:k=3", "--replay", RUN, "--vllm-endpoint", NOWHERE),
    "optimize --resume": ("optimize", "--resume", RUN, "--vllm-endpoint", NOWHERE),
    "soak --resume": ("soak", "--resume", RUN, "--vllm-endpoint", NOWHERE),
    "suite --resume": ("suite", "--resume", RUN),
}
RESUMED = {"run --resume": "latency", "ab --resume": "ab", "optimize --resume": "optimize", "soak --resume": "soak"}


def folder_of(home: Path, experiment: str = "latency", **settings: Any) -> Path:
    """Write what a stranger packs: a finished run of any experiment with any settings; return its folder."""
    folder = home / "results" / "runs" / RUN
    folder.mkdir(parents=True)
    reported = {"run": RUN, "experiment": experiment, "status": "finished", "settings": {**SIZES, **settings}}
    (folder / "manifest.json").write_text(json.dumps({**reported, "plan": {"duration": 60.0}, "measured": [PART]}))
    (folder / "summary.json").write_text(json.dumps({"accounting": []}))
    return folder


def refused(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> str:
    """Return the one line with which a command line is refused, exit code 2."""
    assert run_command_line(list(arguments)) == 2
    (line,) = capsys.readouterr().err.split("\nError: ")[-1].strip().splitlines()
    return line.removeprefix("Error: ")


# What lies below the run, and where it leads; None for a pipe.
WAYS_OUT = {
    "a draft that is a link": ("report.html.draft", "canary"),
    "a manifest's draft": ("manifest.json.draft", "canary"),
    "a manifest elsewhere": ("manifest.json", "canary"),
    "a linked folder": ("panels", "."),
    "a link further down": ("export/vllm-metrics/captures", "."),
    "a journal elsewhere": ("journal.sqlite", "canary"),
    "a log elsewhere": ("journal.sqlite-wal", "canary"),
    "a link to nothing": ("journal.sqlite", "made"),
    "a pipe": ("journal.sqlite", None),
    "a pipe for a summary": ("summary.json", None),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("name", "target"), WAYS_OUT.values(), ids=WAYS_OUT)
def test_row_21_a_folder_with_a_way_out_is_not_entered(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, target: str | None, command: str
) -> None:
    """A link is followed by whoever reads or writes, and a pipe is waited for; every command says it before it does."""
    way_out = folder_of(home, RESUMED.get(command, "latency")) / name
    way_out.parent.mkdir(parents=True, exist_ok=True)
    way_out.unlink(missing_ok=True)
    if target is None:
        os.mkfifo(way_out)
    else:
        way_out.symlink_to(home / "mine" / target)
    assert "lead out of" in refused(capsys, COMMANDS[command])
    assert untouched(home)


OPENED = {
    "engine_python": "python",
    "engine_args": ["--trust-remote-code"],
    "model": "elsewhere",
    "persist_dir": "store",
    "collection": "theirs",
    "questions": "questions.json",
    "prompts": "prompts.jsonl",
    "tokenizer": "tokenizer",
}


@pytest.mark.parametrize("command", RESUMED)
@pytest.mark.parametrize("name", OPENED)
def test_row_21_a_manifest_names_no_program_and_no_file(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    """A folder from a stranger contains the program that its manifest names; the user reads what would be started."""
    arms = {"arms": ["a", "b:k=3"]} if command.startswith(("ab", "optimize")) else {}
    both = {"engine_python": OPENED["engine_python"], "model": OPENED["model"]}
    reported = both if name in both else {name: OPENED[name]}
    folder = folder_of(home, RESUMED[command], **reported, **arms)
    program = folder / "python"
    program.write_text(f"#!/bin/sh\necho ran > {home}/mine/ran\n")
    program.chmod(0o700)
    arguments = tuple(part for part in COMMANDS[command] if part not in {"--vllm-endpoint", NOWHERE})
    line = refused(capsys, arguments)
    assert f"--{name.replace('_', '-')}=" in line.replace("'", "")
    assert "name them again" in line
    assert untouched(home)


@pytest.mark.parametrize("command", ["figures", "export"])
@pytest.mark.parametrize("experiment", ["{mine}/deep", "../../mine/deep", "..", "latency/../../../mine", "a\nb", ""])
@pytest.mark.parametrize("arms", [{}, {"arms": ["a", "b:k=3"]}])
def test_row_21_an_experiments_name_is_no_path(
    home: Path, capsys: pytest.CaptureFixture[str], arms: dict[str, Any], experiment: str, command: str
) -> None:
    """Its figures go into a folder that is called so."""
    folder_of(home, experiment.format(mine=home / "mine"), **arms)
    assert refused(capsys, COMMANDS[command])
    assert untouched(home)


def test_row_21_a_link_for_the_figures_is_not_followed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole results may be packed as well: their figures' folder may be a link."""
    folder_of(home, "kv-cache")
    (home / "results" / "hop2rag").mkdir()
    (home / "results" / "hop2rag" / "kv_cache").symlink_to(home / "mine")
    assert "resolves outside" in refused(capsys, COMMANDS["figures"])
    assert untouched(home)


def test_row_21_a_draft_is_never_somebody_elses_file(home: Path) -> None:
    """Who can guess a draft's name lays a link under it; a link in a file's place is replaced."""
    for name in ("x.json", "x.json.draft", ".x.json.draft"):
        (home / name).symlink_to(home / "mine" / "canary")
    atomic_file.write(home / "x.json", "new")
    assert (home / "x.json").read_text() == "new"
    assert not (home / "x.json").is_symlink()
    assert untouched(home)


def test_row_21_a_manifest_of_ours_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """A check that is narrower than what a run writes would refuse to go on with what is sound."""
    engine = {**ENGINE, "has_random_weights": None, "pids": [1, 2], "pool": {"a": 1}, "model_path": "/models/m"}
    account = {**ACCOUNTING, "failed": {"timeout": 1}, "counter_resets": {"x": 2}, "by": [1.5, None]}
    part = {**PART, "engine": engine, "accounting": account, "counters": {"x": 1.5, "y": None}}
    folder = folder_of(tmp_path)
    (folder / "manifest.json").write_text(json.dumps({**GOOD, "measured": [part], "more": 1}))
    found = manifest_in(folder)
    assert [each.as_dict() for each in found.windows] == [part]
    assert [each.engine for each in found.past_windows] == [{k: v for k, v in engine.items() if k != "model_path"}]


GOOD: dict[str, Any] = {
    "run": RUN,
    "experiment": "vllm-metrics",
    "status": "finished",
    "settings": SIZES,
    "plan": {"duration": 60.0},
    "measured": [PART],
    "label": "",
}
JUNK = st.sampled_from(
    [None, True, -1, 10**400, float("nan"), float("inf"), "", "x", "\ud800", [], [[]], {}, {"a": 1}, "../x", "$\\frac$"]
)


@st.composite
def mutants(draw: st.DrawFn, value: Any) -> Any:
    """Draw a value with some of its parts left out, replaced or doubled."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JUNK | JSON_VALUES)
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if draw(st.integers(0, 9))}
        return {key: draw(mutants(inner)) if draw(st.booleans()) else inner for key, inner in kept.items()}
    if isinstance(value, list):
        return [draw(mutants(inner)) for inner in value] * draw(st.integers(0, 2))
    return value


@many
@given(mutants(GOOD), mutants({"arms": {}, "accounting": [], "quality": {}}))
def test_row_21_any_run_that_is_drawn_again_is_whole_or_refused(tmp_path: Path, reported: Any, summary: Any) -> None:
    """`figures`, `export` and `demo` open what was sent: a run, or one line."""
    folder = tmp_path / "runs" / RUN
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(reported))
    (folder / "summary.json").write_text(json.dumps(summary))
    manifest = answer(lambda: manifest_in(folder), UsageError)
    assert manifest is None or isinstance(manifest, Manifest)
    found = answer(lambda: open_run(RUN, tmp_path, study_of), Hop2RagError)
    if found is not None and found.measured:
        answer(lambda: found.footer, Hop2RagError)
        assert all(0 <= part.window.end - part.window.start < 10**7 for part in found.measured)
