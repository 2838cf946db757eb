"""Times node visits, retrieval stages and LLM calls by their real start and end, and tells everyone who records them.

One visit feeds the Prometheus instruments, the activity timeline and the journal. Within a question all instants come
from one monotonic clock, anchored to the wall clock at its start: a clock that jumps cannot make a negative duration.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from exporter.agent.instruments import QUESTION_TYPES, closed
from exporter.agent.spans import NO_SPANS, current_or, fail, within
from workload.agent.calls import CallMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.trace import Span

    from exporter.agent.busy import BusySeconds
    from exporter.agent.instruments import AgentMetrics
    from exporter.agent.spans import Spans
    from exporter.timeline import NodeActivity
    from workload.agent.reuse import ReuseOrder
    from workload.record.journal import Journal


@dataclass(frozen=True)
class Meter:
    """Everyone who records what the agent does; the journal is absent in `hop2rag ask`.

    Args:
        keeps_text: whether the journal takes the texts of prompts and replies, which may hold anything.
        monotonic, wall: clocks in seconds.
        spans: starts the spans of a trace, if one is exported.
    """

    metrics: AgentMetrics
    activity: NodeActivity
    busy: BusySeconds
    reuse: ReuseOrder
    journal: Journal | None = None
    keeps_text: bool = False
    monotonic: Callable[[], float] = time.perf_counter
    wall: Callable[[], float] = time.time
    spans: Spans = NO_SPANS

    def question(self, worker: str, kind: str, salt: str = "", intended: float | None = None) -> QuestionMeter:
        """Start to meter a question that was to start at the monotonic instant `intended` (default: now).

        `salt` isolates its calls in the prefix cache from those under another salt.
        """
        now = self.monotonic()
        return QuestionMeter(self, worker, kind, salt, now, now if intended is None else intended, self.wall() - now)

    async def acknowledge(self) -> None:
        """Return once every question closed so far is on disk: from then on it is acknowledged.

        Raises:
            StorageError: the journal cannot be written.
        """
        if self.journal:
            await self.journal.acknowledge()


@dataclass
class QuestionMeter:
    """The records of one question. `anchor` turns its monotonic instants into wall-clock time."""

    meter: Meter
    worker: str
    kind: str
    salt: str
    started: float
    intended: float
    anchor: float
    row_id: int = field(init=False, default=0)
    question_id: str = field(init=False, default="")
    visits: list[dict[str, Any]] = field(init=False, default_factory=list)
    calls: list[dict[str, Any]] = field(init=False, default_factory=list)
    span: Span = field(init=False)

    def __post_init__(self) -> None:
        # each question is a trace of its own, whoever drives it
        self.span = self.meter.spans.question(Context())

    def open(self, row: dict[str, Any]) -> None:
        """Write the question down as sent, before its first call."""
        self.question_id = row["question_id"]
        self.span.set_attribute("hop2rag.question.id", self.question_id)
        if journal := self.meter.journal:
            self.row_id = journal.new_id("question")
            times = {"intended_at": self.intended + self.anchor, "started_at": self.started + self.anchor}
            journal.insert("question", {"id": self.row_id, "worker": self.worker, "type": self.kind, **times, **row})

    def close(self, outcome: str, termination: str, hops: int, row: dict[str, Any]) -> None:
        """Count the question and write down what became of it; `Meter.acknowledge` waits until that is on disk.

        Nothing is awaited here, so that no cancellation can come between what is counted and what is written.
        """
        duration = self.meter.monotonic() - self.intended
        metrics = self.meter.metrics
        metrics.questions.labels(outcome, termination).inc()
        if outcome == "ok":
            metrics.question_duration.observe(duration)
            metrics.hops.labels(closed(self.kind, QUESTION_TYPES)).observe(hops)
        if journal := self.meter.journal:
            result = {"outcome": outcome, "termination": termination, "hops": hops, "duration_seconds": duration, **row}
            journal.update("question", self.row_id, result)
        told = {"type": self.kind, "outcome": outcome, "termination": termination}
        self.span.set_attributes({f"hop2rag.question.{name}": value for name, value in told.items()})
        self.span.set_attribute("hop2rag.question.hops", hops)
        if outcome != "ok":
            fail(self.span, str(row.get("reason", outcome)))
        self.span.end()

    def end(self, outcome: str) -> None:
        """Write down that calls which no user asked for have ended; the questions' metrics do not count them."""
        if journal := self.meter.journal:
            duration = self.meter.monotonic() - self.started
            journal.update("question", self.row_id, {"outcome": outcome, "hops": 0, "duration_seconds": duration})

    @contextmanager
    def node(self, name: str, hop: int) -> Iterator[None]:
        """Time one visit of a graph node."""
        metrics, activity = self.meter.metrics, self.meter.activity
        label = metrics.node(name)
        active = metrics.node_active.labels(label)
        active.inc()
        activity.enter(self.worker, label)
        start = self.meter.monotonic()
        outcome = "failed"
        try:
            with within(self.meter.spans.node(self.span, name, hop)):
                yield
            outcome = "ok"
        finally:
            duration = self.meter.monotonic() - start
            activity.leave(self.worker, label)
            active.dec()
            if outcome == "ok":
                metrics.node_duration.labels(label).observe(duration)
            else:
                metrics.node_failures.labels(label).inc()
            self._visit("node_visit", {"node": name, "hop": hop, "outcome": outcome}, start, duration)

    @contextmanager
    def stage(self, name: str, hop: int) -> Iterator[None]:
        """Time one stage of retrieval: embed, search or rerank."""
        metrics = self.meter.metrics
        start = self.meter.monotonic()
        has_ended_well = False
        try:
            span = self.meter.spans.stage(current_or(self.span), name, hop)
            with self.meter.busy.busy("retrieval"), within(span):
                yield
            has_ended_well = True
        finally:
            duration = self.meter.monotonic() - start
            if has_ended_well:
                metrics.retrieval_duration.labels(name).observe(duration)
            else:
                metrics.retrieval_failures.labels(name).inc()
            self._visit("stage", {"stage": name, "hop": hop}, start, duration)

    @contextmanager
    def pause(self, name: str, hop: int) -> Iterator[None]:
        """Time a step of the engine's sleep within a node, in the journal alone; it is neither retrieval nor a call."""
        start = self.meter.monotonic()
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        finally:
            row = {"node": name, "hop": hop, "outcome": outcome}
            self._visit("node_visit", row, start, self.meter.monotonic() - start)

    def prefetched(self, hop: int, outcome: str, start: float, duration: float, waited: float) -> None:
        """Count a retrieval for a draft: `duration` seconds from `start`, `waited` of them by the one who needed it."""
        self.meter.metrics.prefetches.labels(outcome).inc()
        self.meter.metrics.prefetch_seconds.labels(outcome).inc(duration)
        if self.meter.journal:
            row = {"question": self.row_id, "hop": hop, "outcome": outcome, "started_at": start + self.anchor}
            self.meter.journal.insert("prefetch", {**row, "duration_seconds": duration, "waited_seconds": waited})

    def _visit(self, table: str, row: dict[str, Any], start: float, duration: float) -> None:
        row |= {"question": self.row_id, "started_at": start + self.anchor, "duration_seconds": duration}
        self.visits.append(row)
        if self.meter.journal:
            self.meter.journal.insert(table, row)

    @contextmanager
    def call(self, node: str, hop: int, retry: int = 0) -> Iterator[CallMeter]:
        """Time one LLM call; it counts as failed unless `CallMeter.finished` was reached.

        A call that is sent again after a refusal is a call of its own, with `retry` counted from 1.
        """
        span = self.meter.spans.call(current_or(self.span), node, hop)
        call = CallMeter(self, node, hop, self.meter.monotonic(), self.meter.reuse.send(self.salt), span, retry)
        if retry:
            self.meter.metrics.llm_retries.labels(self.meter.metrics.llm_node(node)).inc()
        try:
            with self.meter.busy.busy("generation"), within(span):
                yield call
        finally:
            call.record()
