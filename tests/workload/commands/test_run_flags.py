"""Flags of single experiments: one that would have no effect is refused before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.vllm import StubVllm
from workload.cli import run_command_line

if TYPE_CHECKING:
    from pathlib import Path


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
        ("latency", ["--option", "prefetch=planted"], "Name the run with --replay"),
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


COMMANDS = (
    ["run", "latency"],
    ["ask", "Where?"],
    ["load"],
    ["soak", "--duration", "1m"],
    ["ab", "--arm", "a", "--arm", "b", "--live"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_row_27_what_is_wrong_with_an_engine_is_reported_before_a_corpus_is_opened(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Corpus and embedder took 18 s, and then the user read that the address was wrong."""
    for module in ("workload.harness.backends", "workload.harness.ask", "workload.corpus.default"):
        monkeypatch.setattr(f"{module}.open_corpus", lambda *_: pytest.fail("the corpus was opened"))
    for name in ("HOP2RAG_API_KEY_FILE", "VLLM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with StubVllm() as stub:
        stub.key = "planted"
        assert run_command_line([*command, "--vllm-endpoint", stub.url]) == 2
        assert "asks for a key (HTTP 401" in " ".join(capsys.readouterr().err.split())
        monkeypatch.setenv("OPENAI_API_KEY", "planted")
        assert run_command_line([*command, "--vllm-endpoint", stub.url, "--served-model", "lora-b"]) == 2
        assert "serves no model 'lora-b'. It serves: stub." in " ".join(capsys.readouterr().err.split())
    assert run_command_line([*command, "--vllm-endpoint", stub.url]) == 4
    assert "is unreachable (ConnectError" in " ".join(capsys.readouterr().err.split())
    assert run_command_line([*command, "--vllm-endpoint", "http://gw/../v1"]) == 2
