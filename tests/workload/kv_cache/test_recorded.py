"""A recorded run is analysed by its own ids and order, so its bound must come out as the run worked it out live."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.stubs.agent import agent_of, bench, client_of
from tests.stubs.run import measured
from tests.stubs.vllm import StubVllm, by_node
from workload.errors import UsageError
from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import EngineGate
from workload.harness.loops import Tally
from workload.kv_cache.recorded import read_calls, read_recorded
from workload.kv_cache.reuse_bounds import compared_with_engine, reusable_by_call
from workload.record.bundle import Bundle
from workload.record.journal import Journal
from workload.record.results import WARM_UP

if TYPE_CHECKING:
    from pathlib import Path

    from workload.corpus.hotpotqa import Question

BLOCK_SIZE, RUN = 16, "recorded"
SIZES = {"limit": 4, "max_hops": 2, "k": 10}
FACTS = {"block_size": BLOCK_SIZE, "num_gpu_blocks": 1456, "prefix_caching": True}


async def record(results: Path, questions: tuple[Question, ...], concurrency: int = 1, **settings: Any) -> None:
    """Ask the stub engine in two starts, each with a warm-up, and leave a bundle as a run does."""
    bundle = Bundle(results, RUN)
    bundle.start("vllm-metrics", {**SIZES, "layout": "append-only", "replay": None, **settings})
    bundle.note(measured=[dataclasses.replace(measured(arm), engine=FACTS).as_dict() for arm in ("off", "on")])
    with Journal(bundle.journal, {}) as journal:
        for block, arm in enumerate(("off", "on")):
            with StubVllm(BLOCK_SIZE) as stub:
                stub.script = by_node(decide='{"missing": "", "enough": "no"}', decompose='{"query": "Pell"}')
                async with client_of(stub.url) as client:
                    meter = dataclasses.replace(bench(BLOCK_SIZE, journal).meter, keeps_text=True)
                    driver = Driver(agent_of(client, layout="append-only", max_hops=2), meter, EngineGate(lambda: None))
                    for name, asked in ((WARM_UP, questions[-1:]), ("c1", questions[:-1])):
                        phase = Phase(arm=arm, block=block, name=name, segment=0, salt=f"{RUN}-{block}-{name}")
                        await driver.run(phase, asked, concurrency, tally=Tally(len(asked)), advance=lambda: None)


@pytest_asyncio.fixture
async def results(tmp_path: Path, questions: tuple[Question, ...]) -> Path:
    """A results folder with a recorded run of three questions in two starts."""
    await record(tmp_path, questions[:4])
    return tmp_path


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_the_bound_is_the_runs_own(tmp_path: Path, questions: tuple[Question, ...], concurrency: int) -> None:
    """On every call, and at concurrency 1 what the engine served: any difference is a bug to find."""
    await record(tmp_path, questions[:4], concurrency)
    source = read_recorded(tmp_path, RUN)
    assert source.block_size == BLOCK_SIZE
    assert set(source.arms) == {"off", "on"}
    for arm, calls in source.arms.items():
        reusable = reusable_by_call(calls, BLOCK_SIZE)
        assert sum(reusable) > 0
        assert reusable == [sent.reusable_tokens for sent in calls]
        if concurrency == 1:
            reported = compared_with_engine(calls, reusable, BLOCK_SIZE, source.engines[arm])
            assert reported is not None
            assert reported["cached_share"] == reported["modelled_share"] > 0


async def test_warm_up_is_left_out(results: Path, questions: tuple[Question, ...]) -> None:
    """It has a salt of its own: a bound that counted it would find reuse that no measured call can have."""
    arms = read_recorded(results, RUN).arms
    assert {sent.call.question for sent in arms["on"]} == {question.id for question in questions[:3]}
    assert {sent.call.salt for sent in arms["on"]} == {"1/c1/0"}


async def test_calls_come_in_the_order_of_sending(tmp_path: Path, questions: tuple[Question, ...]) -> None:
    """The journal numbers calls as they end; the cache saw them as they came."""
    await record(tmp_path, questions[:4], concurrency=3)
    for calls in read_recorded(tmp_path, RUN).arms.values():
        starts = [sent.span[0] for sent in calls if sent.span]
        assert starts == sorted(starts)
        assert len(starts) == len(calls)


async def test_its_origin_is_reported(results: Path, tmp_path: Path) -> None:
    """A replayed run has real times and recorded texts; whoever copies its picture must see that."""
    assert "recorded run recorded (vllm-metrics, layout append-only)" in read_recorded(results, RUN).origin
    manifest = tmp_path / "runs" / RUN / "manifest.json"
    reported = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(reported | {"settings": {**SIZES, "layout": "original", "replay": "earlier"}}))
    assert "REPLAY of earlier" in read_recorded(results, RUN).origin
    manifest.write_text(json.dumps(reported | {"experiment": "kv-cache"}))
    assert read_recorded(results, RUN).origin.startswith("SIMULATED")


async def test_one_block_size_is_needed(results: Path) -> None:
    """A bound at the block size of another arm would be compared with what that arm served."""
    manifest = results / "runs" / RUN / "manifest.json"
    reported = json.loads(manifest.read_text())
    reported["measured"][0]["engine"] = {**FACTS, "block_size": 32}
    manifest.write_text(json.dumps(reported))
    with pytest.raises(UsageError, match="different block sizes"):
        read_recorded(results, RUN)


def test_a_run_without_texts_is_refused(tmp_path: Path) -> None:
    """Hashes alone are of one block size; the remedy is to record again."""
    path = tmp_path / "journal.sqlite"
    Journal(path, {}).close()
    with pytest.raises(UsageError, match="--record-prompts"):
        read_calls(path)


@pytest.mark.parametrize("run", ["unknown", "../../etc", ""])
def test_a_run_that_is_not_there_is_refused(tmp_path: Path, run: str) -> None:
    """A typing error must not look like a run without calls."""
    with pytest.raises(UsageError):
        read_recorded(tmp_path, run)
