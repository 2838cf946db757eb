"""Meters our own agent: the recorder that meters any app, and the journal, which keeps every question by its id.

All instants of a question come from one monotonic clock, anchored to the wall clock at the question's start: a wall
clock that jumps cannot make a duration negative.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from exporter.agent.recorder import AgentQuestion, NodeVisit, Recorder, RetrievalStage
from exporter.agent.spans import current, current_or
from workload.agent.calls import CallMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.trace import Span

    from workload.agent.reuse_order import ReuseOrder
    from workload.fleet.ledger_thread import LedgerThread
    from workload.record.journal import Journal


@dataclass(frozen=True)
class Meter:
    """Everything that records what the agent does; `hop2rag ask` has no journal.

    Args:
        reuse: the reuse bound of the engine's calls.
        ledger: the fates of prompt tokens; None if the engine caches no prefixes.
        keeps_text: whether the journal keeps the texts of prompts and replies, which may contain anything.
        wall: seconds since 1970.
    """

    recorder: Recorder
    reuse: ReuseOrder
    journal: Journal | None = None
    keeps_text: bool = False
    wall: Callable[[], float] = time.time
    ledger: LedgerThread | None = field(default=None, kw_only=True)

    def question(self, worker: str, kind: str, salt: str = "", intended: float | None = None) -> QuestionMeter:
        """Start to meter a question that was due at the instant `intended` of the recorder's clock (default: now).

        `salt` isolates its calls in the prefix cache from those under another salt.
        """
        now = self.recorder.clock()
        # each question is a trace of its own, whatever span is current
        question = AgentQuestion(self.recorder, kind, now if intended is None else intended, Context())
        anchor = self.wall() - now
        return QuestionMeter(meter=self, worker=worker, salt=salt, question=question, started=now, anchor=anchor)

    async def acknowledge(self) -> None:
        """Return once every question closed so far is on disk: from then on it is acknowledged.

        Raises:
            StorageError: the journal cannot be written.
        """
        if self.journal:
            await self.journal.acknowledge()


@dataclass(kw_only=True)
class QuestionMeter:
    """Meters one question. Adding `anchor` to an instant of the recorder's clock gives seconds since 1970."""

    meter: Meter
    worker: str
    salt: str
    question: AgentQuestion
    started: float
    anchor: float
    row_id: int = field(init=False, default=0)
    question_id: str = field(init=False, default="")
    visits: list[dict[str, Any]] = field(init=False, default_factory=list)
    calls: list[dict[str, Any]] = field(init=False, default_factory=list)

    @property
    def recorder(self) -> Recorder:
        """The recorder of the question's operations."""
        return self.meter.recorder

    def open(self, row: dict[str, Any]) -> None:
        """Journal the question as sent, before its first call."""
        self.question_id = row["question_id"]
        self.question.span.set_attribute("hop2rag.question.id", self.question_id)
        if journal := self.meter.journal:
            self.row_id = journal.new_id("question")
            times = {"intended_at": self.question.started + self.anchor, "started_at": self.started + self.anchor}
            kind = self.question.kind
            journal.insert("question", {"id": self.row_id, "worker": self.worker, "type": kind, **times, **row})

    def close(self, outcome: str, termination: str, hops: int, row: dict[str, Any]) -> None:
        """Count the question and journal its outcome; `Meter.acknowledge` waits until that is on disk.

        Nothing is awaited here, so no cancellation can come between the count and the journal.
        """
        self.question.end(termination, hops, None if outcome == "ok" else str(row.get("reason", outcome)))
        self._update({"outcome": outcome, "termination": termination, "hops": hops, **row}, self.question.seconds)

    def end(self, outcome: str) -> None:
        """Journal that calls which no user asked for have ended; the metrics of questions do not count them."""
        self._update({"outcome": outcome, "hops": 0}, self.recorder.clock() - self.started)

    def _update(self, row: dict[str, Any], seconds: float) -> None:
        if journal := self.meter.journal:
            journal.update("question", self.row_id, {"duration_seconds": seconds, **row})

    @contextmanager
    def node(self, name: str, hop: int) -> Iterator[None]:
        """Meter one visit of a graph node."""
        with JournaledVisit(self, self.question.span, name, hop).block():
            yield

    @contextmanager
    def stage(self, name: str, hop: int) -> Iterator[None]:
        """Meter one stage of retrieval: embed, search or rerank."""
        with JournaledStage(self, current_or(self.question.span), name, hop).block():
            yield

    @contextmanager
    def pause(self, name: str, hop: int) -> Iterator[None]:
        """Time a step of the engine's sleep within a node, for the journal only: it is neither retrieval nor a call."""
        start = self.recorder.clock()
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        finally:
            row = {"node": name, "hop": hop, "outcome": outcome}
            self.insert("node_visit", row, start, self.recorder.clock() - start)

    def prefetched(self, hop: int, outcome: str, start: float, duration: float, waited: float) -> None:
        """Count a retrieval for a draft that took `duration` seconds from `start`; its node waited `waited` of them."""
        self.recorder.metrics.prefetches.labels(outcome).inc()
        self.recorder.metrics.prefetch_seconds.labels(outcome).inc(duration)
        if self.meter.journal:
            row = {"question": self.row_id, "hop": hop, "outcome": outcome, "started_at": start + self.anchor}
            self.meter.journal.insert("prefetch", {**row, "duration_seconds": duration, "waited_seconds": waited})

    def insert(self, table: str, row: dict[str, Any], start: float, duration: float) -> None:
        """Journal a part of the question that began at the instant `start` and took `duration` seconds."""
        row |= {"question": self.row_id, "started_at": start + self.anchor, "duration_seconds": duration}
        self.visits.append(row)
        if self.meter.journal:
            self.meter.journal.insert(table, row)

    @contextmanager
    def call(self, node: str, hop: int, retry: int = 0) -> Iterator[CallMeter]:
        """Meter one LLM call; one that is sent again after a refusal is another call, with `retry` counted from 1."""
        span, reuse = current_or(self.question.span), self.meter.reuse
        ledger = self.meter.ledger
        call = CallMeter(self.recorder, span, node, hop, retry, reuse=reuse, salt=self.salt, ledger=ledger)
        call.send(call.started + self.anchor)
        try:
            with current(call.span):
                yield call
        finally:
            call.end()
            self.journal_call(call)

    def journal_call(self, call: CallMeter) -> None:
        """Journal a closed call; its reuse bound follows once every earlier call is known."""
        journal = self.meter.journal
        row: dict[str, Any] = {"question": self.row_id, "started_at": call.started + self.anchor, **call.row()}
        self.calls.append(row)
        if journal:
            row["id"] = journal.new_id("llm_call")
            journal.insert("llm_call", row)
            if call.ttft is not None:
                journal.insert("token_gap", {"call": row["id"], "microseconds": call.gaps.tobytes()})
            if self.meter.keeps_text and call.usage:
                journal.insert("call_text", {"call": row["id"], **call.text()})

        def know_bound(tokens: int) -> None:
            row["reusable_tokens"] = tokens
            if call.usage:  # the prompt tokens of a failed call are unknown, so a share of them would exceed 1
                call.reusable(tokens)
            if journal:
                journal.update("llm_call", row["id"], {"reusable_tokens": tokens})

        def keep(fates: dict[str, Any]) -> None:
            if journal:
                journal.insert("token_fate", {"call": row["id"], **fates})

        call.reuse.close(call.arrival, know_bound)
        call.account(row["started_at"], keep)


class JournaledVisit(NodeVisit):
    """A visit of a node that the journal gets when it is closed."""

    def __init__(self, question: QuestionMeter, parent: Span, node: str, hop: int) -> None:
        super().__init__(question.recorder, parent, question.worker, node, hop)
        self._question, self._row = question, {"node": node, "hop": hop}

    def close(self, reason: str | None = None) -> None:
        """Record and journal the visit as succeeded, or as failed for a reason."""
        super().close(reason)
        row = {**self._row, "outcome": "ok" if reason is None else "failed"}
        self._question.insert("node_visit", row, self.started, self.seconds)


class JournaledStage(RetrievalStage):
    """A stage of retrieval that the journal gets when it is closed."""

    def __init__(self, question: QuestionMeter, parent: Span, stage: str, hop: int) -> None:
        super().__init__(question.recorder, parent, stage, hop)
        self._question, self._row = question, {"stage": stage, "hop": hop}

    def close(self, reason: str | None = None) -> None:
        """Record and journal the stage as succeeded, or as failed for a reason."""
        super().close(reason)
        self._question.insert("stage", self._row, self.started, self.seconds)
