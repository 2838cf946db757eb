"""Flags of single experiments: one that would have no effect is refused before anything starts."""

from __future__ import annotations

import pytest

from workload.cli import run_command_line


@pytest.mark.parametrize(
    ("experiment", "flags", "owner"),
    [
        ("latency", ["--rate", "0.5"], "--rate is for concurrency"),
        ("concurrency", ["--contexts", "512"], "--contexts is for context-growth"),
        ("kv-cache", ["--option", "prefetch=question"], "Run it without --option"),
        ("latency", ["--rounds", "3"], "--rounds is for concurrency"),
        ("kv-cache", ["--engine-args", "--x"], "kv-cache starts no engine"),
        ("kv-cache", ["--from-run", "r", "--questions", "q.json"], "bring their own prompts"),
        ("kv-cache", ["--prompts", "p", "--persist-dir", "s"], "bring their own prompts"),
        ("latency", ["--collection", "nosuch"], "--persist-dir"),
        ("latency", ["--served-model", "lora-a"], "--vllm-endpoint"),
        ("latency", ["--option", "colour=red"], "no option 'colour'"),
        ("latency", ["--option", "prefetch=planted"], "Name the run to replay with --replay"),
    ],
)
def test_a_flag_of_another_experiment_is_refused(
    experiment: str, flags: list[str], owner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A closed loop that was asked for a rate, and ignored it, would be read as an open one."""
    assert run_command_line(["run", experiment, *flags]) == 2
    assert owner in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "1e9", "often", "1,,2"])
def test_row_20_an_impossible_rate_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A rate of nothing never sends and one of infinity sends everything at once."""
    assert run_command_line(["run", "concurrency", "--rate", rate]) == 2
    assert "--rate" in capsys.readouterr().err


@pytest.mark.parametrize("contexts", ["0", "-512", "many", "1e9", "512,,1024"])
def test_row_20_an_impossible_context_is_refused(contexts: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt of a billion tokens would fill the client's memory before any server could refuse it."""
    assert run_command_line(["run", "context-growth", "--contexts", contexts]) == 2
    assert "--contexts" in capsys.readouterr().err
