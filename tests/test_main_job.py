"""The main job on the real CPU engine: the one test that starts vLLM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psutil
import pytest

from workload.cli import run_command_line
from workload.engine.install import find_installation
from workload.errors import MissingPartError
from workload.paths import cache_dir
from workload.services.process import free_port

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS = 2


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share what is installed, and nothing else; skip where the engine is missing (`make test` installs it)."""
    shared = cache_dir()
    try:
        find_installation(shared)
    except MissingPartError as error:
        pytest.skip(str(error))
    own = tmp_path / "cache"
    own.mkdir()
    for name in ("engine", "prometheus", "corpus"):
        if (shared / name).exists():
            (own / name).symlink_to(shared / name)
    monkeypatch.setenv("HOP2RAG_CACHE", str(own))


@pytest.mark.engine
@pytest.mark.prometheus
@pytest.mark.timeout(900)
def test_prefix_caching_is_compared_on_a_real_engine(tmp_path: Path) -> None:
    """Everything below this test is stubbed somewhere; only a real run shows that the parts measure the same thing."""
    ports = ["--engine-port", str(free_port()), "--prometheus-port", str(free_port())]
    flags = ["--limit", str(QUESTIONS), "--max-hops", "2", "--order", "AB", "--results", str(tmp_path / "results")]

    assert run_command_line(["run", "vllm-metrics", *flags, *ports]) == 0

    files = tmp_path / "results" / "hop2rag" / "vllm_metrics"
    summary = json.loads((files / "summary.json").read_text())
    off, on = summary["hit_rate"]["prefix-off"], summary["hit_rate"]["prefix-on"]
    assert off["prefix_caching"] == "caching off"
    assert off["counters"]["hit_rate"] is None
    assert on["counters"]["hits"] == on["responses"]["cached_tokens"] > 0
    assert on["counters"]["queries"] == on["prompt_tokens"] > 0
    assert on["differences"] == []
    assert on["calls_equal_to_bound"] == on["calls"] >= 4 * QUESTIONS
    fates = summary["token_fates"]["prefix-on"]
    assert fates["tokens"]["hit"] == on["counters"]["hits"]
    assert sum(fates["tokens"].values()) == on["prompt_tokens"]
    assert (fates["tokens"]["unknown"], fates["tokens"]["evicted"], fates["calls"]) == (0, 0, on["calls"])
    assert [block["sent"] for block in summary["accounting"]] == [QUESTIONS, QUESTIONS]
    # Of two values the median is the mean. The model may take another path in the second start, and compute more.
    uncached = summary["compared"]["uncached_prefill_tokens"]
    assert uncached["a"] == off["prompt_tokens"] / QUESTIONS
    assert uncached["b"] == (on["prompt_tokens"] - on["counters"]["hits"]) / QUESTIONS

    (bundle,) = (tmp_path / "results" / "runs").iterdir()
    promql = json.loads((bundle / "promql.json").read_text())
    assert {path.stem for path in (bundle / "panels").iterdir()} == set(promql)
    assert all(len(path.read_text().splitlines()) > 5 for path in (bundle / "panels").iterdir())
    for name in ("cache_metrics.png", "throughput.png", "request_states.png"):
        assert (files / name).stat().st_size > 20_000
    assert json.loads((bundle / "manifest.json").read_text())["status"] == "finished"
    assert not [child for child in psutil.Process().children(recursive=True) if "vllm" in " ".join(child.cmdline())]
