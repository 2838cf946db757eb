"""Timing truth: stub nodes of known length through the real graph, and the wrong ways to time them, which must fail.

The clock is the stubs' own: it moves inside a node, by the node's length, and stands still between them. So what is
credited to a neighbour, or to a gap, shows exactly; what the graph itself costs is in `benchmarks/metering.py`.
"""

from __future__ import annotations

import asyncio
import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import Histogram

from exporter.agent.instruments import NODE_BUCKETS, QUESTION_BUCKETS, TTFT_BUCKETS
from exporter.agent.usage import Usage
from tests.stubs.agent import bench
from workload.agent.graph import Hop2Rag, build
from workload.agent.llm import Llm, LlmError
from workload.agent.state import NODES
from workload.record.journal import Journal, read
from workload.settings import LoadSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from exporter.agent.instruments import AgentMetrics
    from workload.agent.metering import QuestionMeter
    from workload.agent.nodes import Changes, Hop2RagNodes
    from workload.agent.state import Hop2RagState

# Unequal neighbours everywhere: time credited to the wrong neighbour is off by 2 ms or more.
SECONDS = dict(zip(NODES, (0.004, 0.03, 0.05, 0.008, 0.001, 0.02, 0.012, 0.04, 0.006, 0.002), strict=True))


class SteppedClock:
    """A clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time now, in seconds."""
        return self.now


class TimedNodes:
    """Nodes that do nothing but move the clock by a known time; one hop, then the answer."""

    max_hops = 1

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> Callable[[Hop2RagState, QuestionMeter], Any]:
        if name not in SECONDS:
            raise AttributeError(name)

        async def node(_: Hop2RagState, __: QuestionMeter) -> Changes:
            await asyncio.sleep(0)
            self._clock.now += SECONDS[name]
            await asyncio.sleep(0)
            return {"hop": 1, "termination": "enough" if name == "decide" else ""}

        return node


async def test_each_node_takes_what_it_took() -> None:
    """Each duration is the node's own, and between two of them lies nothing of either."""
    clock = SteppedClock(100.0)
    meter = bench(clock=clock, wall=SteppedClock(1_000.0)).meter
    question = meter.question("0", "bridge")
    await Hop2Rag(cast("Hop2RagNodes", TimedNodes(clock))).answer({"question": "When?"}, question)
    visits = question.visits
    assert [visit["node"] for visit in visits] == list(NODES)
    assert {visit["node"]: visit["duration_seconds"] for visit in visits} == pytest.approx(SECONDS)
    for before, after in pairwise(visits):
        assert after["started_at"] == pytest.approx(before["started_at"] + before["duration_seconds"], abs=1e-6)


async def test_a_timer_started_by_the_event_of_a_node_is_wrong() -> None:
    """The trap: an event says that a node has ended; a timer started then measures the node after it."""
    clock = SteppedClock(100.0)
    app, meter = build(cast("Hop2RagNodes", TimedNodes(clock))), bench().meter
    events = app.astream({"question": "When?"}, context=meter.question("0", "bridge"), stream_mode="updates")
    arrived = [(next(iter(event)), clock.now) async for event in events]
    wrong = {node: after - at for (node, at), (_, after) in pairwise(arrived)}
    assert wrong.keys() == set(NODES[:-1])
    assert not any(seconds == pytest.approx(SECONDS[node]) for node, seconds in wrong.items())


def test_no_node_is_as_long_as_the_next() -> None:
    """With equal neighbours the first test could not distinguish their times."""
    assert all(one != other for one, other in pairwise(SECONDS.values()))


def test_row_19_a_wall_clock_that_jumps_changes_no_duration() -> None:
    """NTP or a suspended laptop moves the wall clock by an hour; instants of a question stay in their order."""
    monotonic, wall = SteppedClock(100.0), SteppedClock(1_700_000_000.0)
    meter = bench(clock=monotonic, wall=wall).meter
    question = meter.question("0", "bridge")
    for jump in (-3600.0, 3600.0):
        wall.now += jump
        with question.node("grade", 1):
            monotonic.now += 2.0
    first, second = question.visits
    assert [visit["duration_seconds"] for visit in (first, second)] == [2.0, 2.0]
    assert [visit["started_at"] for visit in (first, second)] == [1_700_000_000.0, 1_700_000_002.0]


def test_latency_counts_from_the_intended_start() -> None:
    """A question that had to wait for its turn has waited; leaving that out is coordinated omission."""
    monotonic = SteppedClock(10.0)
    measured = bench(clock=monotonic, wall=SteppedClock(0.0))
    question = measured.meter.question("0", "bridge", intended=7.0)
    monotonic.now = 11.0
    question.close("ok", "enough", 2, {})
    assert measured.value("hop2rag_question_duration_seconds_sum") == 4.0
    assert measured.value("hop2rag_questions_total", outcome="ok", termination="enough") == 1
    assert measured.value("hop2rag_hops_sum", type="bridge") == 2


FAILURES = (RuntimeError(), LlmError("timeout"), asyncio.CancelledError(), KeyboardInterrupt(), TimeoutError())


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_row_26_what_failed_is_counted_and_is_no_latency(failure: BaseException) -> None:
    """An overloaded engine that refuses in 10 us would halve the mean; a gauge that is left up stays up forever."""
    measured = bench()
    question = measured.meter.question("0", "bridge")
    reason = getattr(failure, "reason", None)
    with pytest.raises(type(failure)):
        fail_within(question, failure, reason)
    assert question.visits[-1]["outcome"] == "failed"
    assert question.calls[0]["duration_seconds"] >= 0
    assert measured.value("hop2rag_node_active", node="decide") == 0
    question.close("failed" if reason else "cancelled", "error", 0, {})
    assert observed(measured.meter.recorder.metrics) == 0
    assert measured.value("hop2rag_node_failures_total", node="decide") == 1
    assert measured.value("hop2rag_retrieval_failures_total", stage="rerank") == 1
    assert measured.value("hop2rag_llm_errors_total", node="decide", reason=reason or "cancelled") == 1


def fail_within(question: QuestionMeter, failure: BaseException, reason: str | None) -> None:
    """Fail inside a call of a stage of a node, after the first token."""
    with question.node("decide", 1), question.stage("rerank", 1), question.call("decide", 1) as call:
        call.first_token()
        call.reason = reason
        raise failure


def observed(metrics: AgentMetrics) -> float:
    """Return the number of observations in all histograms."""
    histograms = (value for value in vars(metrics).values() if isinstance(value, Histogram))
    samples = (sample for histogram in histograms for family in histogram.collect() for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_count"))


def test_what_succeeded_is_observed_and_counts_as_no_failure() -> None:
    """Attempts are a histogram's count and its failures: whatever ends is in one of the two, and in one only."""
    measured = bench()
    question = measured.meter.question("0", "bridge")
    with question.node("decide", 1), question.stage("rerank", 1), question.call("decide", 1) as call:
        call.first_token()
        call.finished(Usage(10, 1, None, "stop"), [])
    question.close("ok", "enough", 1, {})
    for name, labels in (
        ("node", {"node": "decide"}),
        ("retrieval", {"stage": "rerank"}),
        ("llm_call", {"node": "decide"}),
        ("question", {}),
    ):
        assert measured.value(f"hop2rag_{name}_duration_seconds_count", **labels) == 1
    assert measured.value("hop2rag_llm_time_to_first_token_seconds_count", node="decide") == 1
    assert measured.value("hop2rag_node_failures_total", node="decide") == 0
    assert measured.value("hop2rag_retrieval_failures_total", stage="rerank") == 0


@pytest.mark.parametrize("buckets", [NODE_BUCKETS, QUESTION_BUCKETS, TTFT_BUCKETS], ids=["node", "question", "ttft"])
def test_no_time_within_the_time_out_lies_beyond_the_buckets(buckets: Sequence[float]) -> None:
    """A quantile in the last bucket becomes its lower bound: a call of 110 s read as 60 s."""
    client = inspect.signature(Llm).parameters["timeout_seconds"].default
    assert buckets[-1] >= client == LoadSettings.model_fields["request_timeout"].default


def test_row_05_ten_thousand_names_make_one_series_more() -> None:
    """A runaway name must not grow Prometheus; nothing of it may break the exposition either."""
    measured = bench()
    hostile = ["\x00", "a\nb", "\N{PILE OF POO}", "x" * 1_000_000, *(f"name-{number}" for number in range(10_000))]
    question = measured.meter.question("0", "bridge")
    with question.node("grade", 1):
        pass
    before = series_of(measured.meter.recorder.metrics)
    for name in hostile:
        with question.node(name, 1):
            pass
    assert series_of(measured.meter.recorder.metrics) == before + 1
    assert measured.value("hop2rag_node_duration_seconds_count", node="other") == len(hostile)


def series_of(metrics: AgentMetrics) -> int:
    """Return how many nodes the duration histogram distinguishes."""
    samples = next(iter(metrics.node_duration.collect())).samples
    return sum(sample.name.endswith("_count") for sample in samples)


async def test_hops_beyond_four_share_a_label() -> None:
    """`max_hops` may be ten; labels stay a closed set while the journal keeps the number."""
    measured = bench()
    question = measured.meter.question("0", "bridge")
    for hop in (5, 9):
        with question.call("decide", hop) as call:
            call.finished(Usage(10, 1, None, "stop"), [])
    assert measured.value("hop2rag_prompt_tokens_total", node="decide", hop="5+") == 20
    assert [call["hop"] for call in question.calls] == [5, 9]
    assert measured.value("hop2rag_cached_prompt_tokens_total", node="decide", hop="5+") is None


async def test_the_arrival_of_each_chunk_is_kept_to_the_microsecond(tmp_path: Path) -> None:
    """Inter-token latency needs every chunk; first and last alone give only its mean per call."""
    clock = SteppedClock(100.0)
    with Journal(tmp_path / "journal.sqlite", {}) as journal:
        measured = bench(journal=journal, clock=clock)
        question = measured.meter.question("0", "bridge")
        question.open({"arm": "a", "block": 0, "phase": "c1", "segment": 0, "question_id": "q", "attempt": 1})
        for gaps in ((0.25, 0.001, 0.002), ()):
            with question.call("decide", 1) as call:
                for gap in gaps:
                    clock.now += gap
                    call.chunk()
                call.finished(Usage(10, 3, None, "stop"), [])
        await measured.meter.acknowledge()
    (kept,) = read(tmp_path / "journal.sqlite", "token_gap")
    assert kept["call"] == 1
    assert memoryview(kept["microseconds"]).cast("I").tolist() == [1000, 2000]
