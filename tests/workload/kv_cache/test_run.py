"""The whole experiment from the command line, on a small store and tokenizer, without an engine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.vllm import StubVllm
from tests.workload.corpus.conftest import WordEmbedder
from tests.workload.kv_cache.conftest import COLLECTION
from workload.cli import run_command_line
from workload.corpus.hotpotqa import dump

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.corpus.hotpotqa import Question

    Run = Callable[..., int]

FILE = "hop2rag/kv_cache/prefix_overlap_analysis.json"


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    questions: tuple[Question, ...],
    store_folder: Path,
    model_folder: Path,
) -> Run:
    """Run the experiment with flags on top of those that every run here needs; results go to tmp_path/results."""
    monkeypatch.setattr("workload.kv_cache.run.MiniLmEmbedder", WordEmbedder)
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path / "cache"))
    # Chroma remembers a folder for as long as the process lives, so each test has its own copy.
    store = shutil.copytree(store_folder, tmp_path / "store")
    dump(questions, tmp_path / "questions.json")
    corpus = ["--persist-dir", store, "--collection", COLLECTION, "--questions", tmp_path / "questions.json"]
    own = ["--tokenizer", model_folder, "--results", tmp_path / "results", "--limit", 2]

    def go(*flags: object) -> int:
        needed = own if {"--from-run", "--prompts"} & set(flags) else [*corpus, *own]
        return run_command_line(["run", "kv-cache", *map(str, needed), *map(str, flags)])

    return go


def read(path: Path) -> dict[str, Any]:
    """Return a JSON file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_it_leaves_the_plans_files_and_a_bundle(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Users know the files by these names; the bundle has each picture's data, and no text that was not asked for."""
    assert run() == 0
    results = tmp_path / "results"
    summary = read(results / FILE)
    assert list(summary["arms"]) == ["original", "instructions-first", "append-only"]
    assert summary["is_simulated"]
    assert summary["quality"]["original"]["questions"] == 2
    assert summary["gold"]["questions"] == summary["asked"] == summary["wanted"] == 2
    assert 0 <= summary["gold"]["found_all"] <= 2
    assert {path.name for path in (results / FILE).parent.iterdir()} == {
        "prefix_overlap_analysis.json",
        "prefix_overlap_heatmap.png",
        "token_breakdown.png",
        "reuse_bound.png",
    }
    (bundle,) = (results / "runs").iterdir()
    assert read(bundle / "manifest.json")["status"] == "finished"
    assert read(bundle / "summary.json") == summary
    assert {path.stem for path in bundle.glob("*.csv")} == {
        *("bounds", "eviction", "pool_curve", "shared_prefixes", "parts"),
    }
    assert "SIMULATED" in (bundle / "report.html").read_text()
    assert b"Passages:" not in (bundle / "journal.sqlite").read_bytes()
    assert "SIMULATED" in capsys.readouterr().out


def test_without_figures_the_json_is_the_same(run: Run, tmp_path: Path) -> None:
    """Whoever has no display gets every number; and the same questions give the same numbers again."""
    found = []
    for flags in ((), ("--no-figures",)):
        assert run(*flags) == 0
        folder = (tmp_path / "results" / FILE).parent
        found.append({**read(tmp_path / "results" / FILE), "run": ""})
        pictures = list(folder.glob("*.png"))
        assert bool(pictures) != bool(flags)
        shutil.rmtree(folder)
    assert found[0] == found[1]


def test_a_simulation_that_was_recorded_can_be_read_again(run: Run, tmp_path: Path) -> None:
    """The same calls by another way must give the same bounds; and it stays a simulation."""
    assert run("--record-prompts", "--no-figures") == 0
    first = read(tmp_path / "results" / FILE)
    assert run("--from-run", first["run"], "--no-figures") == 0
    second = read(tmp_path / "results" / FILE)
    assert second["source"] == "recorded"
    assert second["is_simulated"]
    assert first["run"] in second["origin"]
    for arm, found in first["arms"].items():
        assert second["arms"][arm]["bounds"] == found["bounds"]
        assert second["arms"][arm]["parts"] == found["parts"]


def test_a_run_that_was_begun_is_done_again(run: Run, tmp_path: Path) -> None:
    """A suite goes on by the names of its runs; a half-written journal must not count its questions twice."""
    assert run("--no-figures") == 0
    summary = read(tmp_path / "results" / FILE)
    assert run("--resume", summary["run"], "--no-figures") == 0
    assert read(tmp_path / "results" / FILE) == summary


def test_prompts_without_tokens_have_no_share(run: Run, tmp_path: Path) -> None:
    """Of nothing nothing can be reused: neither 0 % nor a division by it, in the table, the JSON and the pictures."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt_token_ids": []}\n' * 2)
    assert run("--prompts", path) == 0
    arm = read(tmp_path / "results" / FILE)["arms"]["prompts"]
    assert {bound["share"] for bound in arm["bounds"]} == {step["share"] for step in arm["eviction"]} == {None}


def test_prompts_from_elsewhere(run: Run, tmp_path: Path) -> None:
    """They need no corpus and, as ids, no tokenizer."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt_token_ids": {[*range(40), number]}}}\n' for number in range(4)))
    assert run("--prompts", path, "--no-figures") == 0
    summary = read(tmp_path / "results" / FILE)
    assert (summary["source"], summary["is_simulated"], summary["tokenizer"]) == ("prompts", False, None)
    (bound,) = (bound for bound in summary["arms"]["prompts"]["bounds"] if bound["block_size"] == 16)
    assert bound["reusable_tokens"] == bound["across_requests_tokens"] == 3 * 32
    assert bound["within_request_tokens"] == 0


def test_an_endpoint_gives_the_block_size(run: Run, tmp_path: Path) -> None:
    """The size is read from the engine, never assumed; ids need no check of the tokenizer."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt_token_ids": [1, 2, 3]}\n')
    with StubVllm(block_size=48) as stub:
        assert run("--prompts", path, "--vllm-endpoint", stub.url, "--no-figures") == 0
    summary = read(tmp_path / "results" / FILE)
    assert summary["block_size"] == 48
    assert [bound["block_size"] for bound in summary["arms"]["prompts"]["bounds"]] == [1, 16, 32, 48, 64, 128, 256]


def test_a_server_that_does_not_report_its_tokens_ends_the_run(run: Run, tmp_path: Path) -> None:
    """The check was asked for by naming the server; the bundle then says why there is no result."""
    with StubVllm() as stub:
        assert run("--vllm-endpoint", stub.url) == 4
    (bundle,) = (tmp_path / "results" / "runs").iterdir()
    manifest = read(bundle / "manifest.json")
    assert manifest["status"] == "aborted"
    assert "tokenize" in manifest["why"]


@pytest.mark.parametrize(
    ("flags", "code", "reported"),
    [
        (("--from-run", "r", "--prompts", "p"), 2, "Name one source of prompts"),
        (("--from-run", "unknown"), 2, "There is no run"),
        (("--prompts", "missing.jsonl"), 2, "cannot be read"),
        (("--tokenizer", "nowhere"), 3, "There is no tokenizer"),
        (("--limit", "99"), 2, "Cannot draw 99 questions"),
    ],
)
def test_what_is_wrong_is_reported_before_anything_is_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], code: int, reported: str
) -> None:
    """A typing error leaves no folder of an empty run behind."""
    assert run(*flags) == code
    assert reported in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "results" / "runs").exists()


def test_without_an_engine_installed_the_tokenizer_is_the_missing_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default tokenizer lies in the installation; the message says how to get it."""
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path))
    assert run_command_line(["run", "kv-cache", "--results", str(tmp_path / "results")]) == 3
    assert "hop2rag engine install" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("flag", ["--from-run", "--prompts", "--tokenizer"])
def test_its_flags_are_refused_elsewhere(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    """A flag that another experiment would ignore hides a misunderstanding for the length of a run."""
    assert run_command_line(["run", "vllm-metrics", flag, "x"]) == 2
    assert "are for kv-cache" in " ".join(capsys.readouterr().err.split())


def test_questions_without_facts_are_not_simulated(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], questions: tuple[Question, ...]
) -> None:
    """A reader without gold facts says "enough" at once: its bound would be that of one hop."""
    blind = [replace(question, answer=None, supporting_facts=()) for question in questions]
    dump(blind, tmp_path / "blind.json")
    assert run("--questions", tmp_path / "blind.json") == 2
    assert "have no supporting facts" in " ".join(capsys.readouterr().err.split())


def test_a_manifest_names_no_corpus_that_was_not_opened(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the shell is no part of a run whose prompts come from a file."""
    monkeypatch.setenv("HOP2RAG_QUESTIONS", "/nowhere.json")
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt_token_ids": {[*range(40), number]}}}\n' for number in range(4)))
    assert run("--prompts", path) == 0
    (manifest,) = map(read, (tmp_path / "results" / "runs").glob("*/manifest.json"))
    assert manifest["settings"]["questions"] is None
    assert "corpus" not in manifest
