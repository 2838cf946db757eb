"""Times node visits, retrieval stages and LLM calls by their real start and end, and tells everyone who records them.

One visit feeds the Prometheus instruments, the activity timeline and the journal. Within a question all instants come
from one monotonic clock, anchored to the wall clock at its start: a clock that jumps cannot make a negative duration.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from exporter.agent import QUESTION_TYPES, closed, hop_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.agent import AgentMetrics
    from exporter.overlap import BusySeconds
    from exporter.timeline import NodeActivity
    from workload.agent.reuse import Arrival, ReuseOrder
    from workload.agent.state import Message
    from workload.journal import Journal


@dataclass(frozen=True)
class Usage:
    """What the server said about a call. Tokens; None where it did not say."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    finish_reason: str


@dataclass(frozen=True)
class Meter:
    """Everyone who records what the agent does; the journal is absent in `hop2rag ask`.

    Args:
        keeps_text: whether the journal takes the texts of prompts and replies, which may hold anything.
        monotonic, wall: clocks in seconds.
    """

    metrics: AgentMetrics
    activity: NodeActivity
    busy: BusySeconds
    reuse: ReuseOrder
    journal: Journal | None = None
    keeps_text: bool = False
    monotonic: Callable[[], float] = time.perf_counter
    wall: Callable[[], float] = time.time

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

    def open(self, row: dict[str, Any]) -> None:
        """Write the question down as sent, before its first call."""
        self.question_id = row["question_id"]
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
        metrics.question_duration.observe(duration)
        metrics.questions.labels(outcome, termination).inc()
        if outcome == "ok":
            metrics.hops.labels(closed(self.kind, QUESTION_TYPES)).observe(hops)
        if journal := self.meter.journal:
            result = {"outcome": outcome, "termination": termination, "hops": hops, "duration_seconds": duration, **row}
            journal.update("question", self.row_id, result)

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
            yield
            outcome = "ok"
        finally:
            duration = self.meter.monotonic() - start
            activity.leave(self.worker, label)
            active.dec()
            metrics.node_duration.labels(label).observe(duration)
            self._visit("node_visit", {"node": name, "hop": hop, "outcome": outcome}, start, duration)

    @contextmanager
    def stage(self, name: str, hop: int) -> Iterator[None]:
        """Time one stage of retrieval: embed, search or rerank."""
        start = self.meter.monotonic()
        try:
            with self.meter.busy.busy("retrieval"):
                yield
        finally:
            duration = self.meter.monotonic() - start
            self.meter.metrics.retrieval_duration.labels(name).observe(duration)
            self._visit("stage", {"stage": name, "hop": hop}, start, duration)

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
        call = CallMeter(self, node, hop, self.meter.monotonic(), self.meter.reuse.send(self.salt), retry)
        if retry:
            self.meter.metrics.llm_retries.labels(self.meter.metrics.llm_node(node)).inc()
        try:
            with self.meter.busy.busy("generation"):
                yield call
        finally:
            call.record()


@dataclass
class CallMeter:
    """The record of one LLM call. Set `reason` when it fails; see `exporter.agent.ERROR_REASONS`."""

    question: QuestionMeter
    node: str
    hop: int
    started: float
    arrival: Arrival
    retry: int = 0
    ttft: float | None = None
    usage: Usage | None = None
    reason: str | None = None
    messages: Sequence[Message] = ()
    reply: str = ""

    def first_token(self) -> None:
        """Note the time of the first token; later calls change nothing."""
        if self.ttft is None:
            self.ttft = self.question.meter.monotonic() - self.started

    def prompt_ids(self, ids: Sequence[int]) -> None:
        """Take the prompt's token ids, as the server counts them."""
        self.question.meter.reuse.prompt(self.arrival, ids)

    def finished(self, usage: Usage, output_ids: Sequence[int]) -> None:
        """Take the server's usage and the ids it generated."""
        self.question.meter.reuse.output(self.arrival, output_ids)
        self.usage = usage

    def said(self, messages: Sequence[Message], reply: str) -> None:
        """Take the texts; they are kept only if the run was asked to."""
        self.messages, self.reply = messages, reply

    def _text(self) -> dict[str, Any]:
        return {
            "messages": json.dumps(list(self.messages)),
            "reply": self.reply,
            "prompt_ids": bytes(self.arrival.prompt or b""),
            "output_ids": bytes(self.arrival.output or b""),
        }

    def record(self) -> None:
        """Count the call and write it down; the reuse bound follows once every earlier call is known."""
        meter = self.question.meter
        duration = meter.monotonic() - self.started
        node, hop = meter.metrics.llm_node(self.node), hop_label(self.hop)
        row: dict[str, Any] = {
            "question": self.question.row_id,
            "node": self.node,
            "hop": self.hop,
            "retry": self.retry,
            "started_at": self.started + self.question.anchor,
            "duration_seconds": duration,
            "ttft_seconds": self.ttft,
            "outcome": "ok" if self.usage else "failed",
            "reason": None if self.usage else self.reason or "cancelled",
        }
        row["block_hashes"] = meter.reuse.hashes(self.arrival)
        meter.metrics.llm_call_duration.labels(node).observe(duration)
        if self.usage:
            row |= asdict(self.usage)
            self._count(node, hop, self.usage)
        else:
            meter.metrics.llm_errors.labels(node, row["reason"]).inc()
        self.question.calls.append(row)
        row_id = 0
        if meter.journal:
            row_id = row["id"] = meter.journal.new_id("llm_call")
            meter.journal.insert("llm_call", row)
            if meter.keeps_text and self.usage:
                meter.journal.insert("call_text", {"call": row_id, **self._text()})

        def know_bound(tokens: int) -> None:
            row["reusable_tokens"] = tokens
            if self.usage:  # the prompt tokens of a failed call are not known, so a share of them would exceed 1
                meter.metrics.expect(meter.metrics.reusable_prompt_tokens)
                meter.metrics.reusable_prompt_tokens.labels(node, hop).inc(tokens)
            if meter.journal:
                meter.journal.update("llm_call", row_id, {"reusable_tokens": tokens})

        meter.reuse.close(self.arrival, know_bound)

    def _count(self, node: str, hop: str, usage: Usage) -> None:
        metrics = self.question.meter.metrics
        if self.ttft is not None:
            metrics.llm_ttft.labels(node).observe(self.ttft)
        metrics.prompt_tokens.labels(node, hop).inc(usage.prompt_tokens)
        metrics.prompt_size.labels(node, hop).observe(usage.prompt_tokens)
        metrics.completion_tokens.labels(node, hop).inc(usage.completion_tokens)
        if usage.cached_tokens is not None:
            metrics.expect(metrics.cached_prompt_tokens)
            metrics.cached_prompt_tokens.labels(node, hop).inc(usage.cached_tokens)
