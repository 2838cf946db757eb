"""What a gate replays: the recording's load and agent, on the engine and places of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.recorded import SETTINGS, record_run
from workload.cli import run_command_line
from workload.errors import UsageError
from workload.experiments.gate import CODES, replayed

if TYPE_CHECKING:
    from pathlib import Path


def test_load_and_agent_are_the_recordings(tmp_path: Path) -> None:
    """Another seed asks other questions, and no pair is left; a stranger's folder must not choose a program."""
    past = SETTINGS.changed(limit=7, seed=3, k=5, concurrency=(4,), vllm_endpoint="http://127.0.0.1:1")
    record_run(tmp_path, "a", {"q": 1.0}, settings=past)
    now = SETTINGS.changed(results=tmp_path, vllm_endpoint="http://127.0.0.1:2")
    found, arm = replayed(now, "a", None)
    assert (found.load.limit, found.load.seed, found.agent.k, found.load.concurrency) == (7, 3, 5, (4,))
    assert found.places.vllm_endpoint == "http://127.0.0.1:2"
    assert (found.load.replay, arm.name) == ("a", "base")


def test_a_replay_is_replayed_by_its_own_recording(tmp_path: Path) -> None:
    """A replay keeps no texts; those that it sent lie in the run that it replayed."""
    record_run(tmp_path, "b", {"q": 1.0}, settings=SETTINGS.changed(replay="a"))
    found, _ = replayed(SETTINGS.changed(results=tmp_path), "b", "base")
    assert found.load.replay == "a"
    with pytest.raises(UsageError, match=r"has no arm 'gone'\. It has: base"):
        replayed(SETTINGS.changed(results=tmp_path), "b", "gone")


def test_each_verdict_has_an_exit_code_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CI server must not take a missing run for a regression."""
    assert sorted(CODES.values()) == [0, 7, 8]
    assert run_command_line(["gate", "--against", "none", "--results", str(tmp_path)]) == 2
    assert "There is no run" in capsys.readouterr().err
