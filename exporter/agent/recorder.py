"""Opens, times, counts, traces and closes an agent's operations: questions, node visits, retrieval stages, LLM calls.

There is one recorder: our own agent reaches it through `workload.agent.metering`, any other app through
`exporter.langgraph`. An operation that succeeds is timed; one that fails is only counted, because neither a refusal nor
a time-out is a latency.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.agent.instruments import (
    CHAIN,
    ERROR_REASONS,
    OTHER,
    QUESTION_TYPES,
    AgentMetrics,
    closed,
)
from exporter.agent.spans import NO_TRACING, TIME_TO_FIRST_CHUNK, AgentTracer, current, exemplar_of, fail, set_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from prometheus_client import Counter, Histogram

    from exporter.agent.busy import BusySeconds
    from exporter.agent.usage import Usage
    from exporter.timeline import NodeActivity

CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Where operations are recorded.

    Args:
        clock: seconds, monotonic.
        tracer: starts the spans; by default nothing is traced.
    """

    metrics: AgentMetrics
    activity: NodeActivity
    busy: BusySeconds
    clock: Callable[[], float] = time.perf_counter
    tracer: AgentTracer = NO_TRACING


class Operation(ABC):
    """An operation in progress, opened by its construction. `close` it once, or let `block` do so.

    Attributes:
        span: its span, which lies in that of the `parent` where one is given.
        started: when it started, by the recorder's clock.
        seconds: its duration, once closed.
        reason: why it failed, once closed; None if it succeeded.
    """

    def __init__(self, recorder: Recorder, span: Span) -> None:
        self._recorder = recorder
        self.span = span
        self.started = recorder.clock()
        self.seconds = 0.0
        self.reason: str | None = None

    def close(self, reason: str | None = None) -> None:
        """Record the operation as succeeded, or as failed for a reason."""
        self.seconds = self._recorder.clock() - self.started
        self.reason = reason
        self._leave()
        self._record(self._recorder.metrics)
        if reason is not None:
            fail(self.span, reason)
        self.span.end()

    def abandon(self) -> None:
        """End the operation uncounted, because it neither succeeded nor failed."""
        self._leave()
        self.span.end()

    @contextmanager
    def block(self) -> Iterator[None]:
        """Make the span current inside the block, and close the operation at its end."""
        try:
            with current(self.span):
                yield
        except BaseException as error:
            self.close(reason_of_failure(error))
            raise
        self.close()

    @abstractmethod
    def _leave(self) -> None: ...

    @abstractmethod
    def _record(self, metrics: AgentMetrics) -> None: ...

    def _time(self, duration: Histogram, failures: Counter) -> None:
        if self.reason is None:
            duration.observe(self.seconds, exemplar_of(self.span))
        else:
            failures.inc()


class AgentQuestion(Operation):
    """A question, timed from the instant `intended` (default: now). `end` closes it.

    Its span lies in the span that is current in `context`, by default the current context.
    """

    def __init__(
        self, recorder: Recorder, kind: str = OTHER, intended: float | None = None, context: Context | None = None
    ) -> None:
        super().__init__(recorder, recorder.tracer.question(context))
        self.kind = kind
        self.started = self.started if intended is None else intended

    def end(self, termination: str, hops: int, reason: str | None = None) -> None:
        """Close the question after `hops` hops; `termination` is one of `exporter.agent.instruments.TERMINATIONS`."""
        self._termination, self._hops = termination, hops
        self.close(reason)

    def _leave(self) -> None: ...

    def _record(self, metrics: AgentMetrics) -> None:
        outcome = "ok" if self.reason is None else CANCELLED if self.reason == CANCELLED else "failed"
        metrics.questions.labels(outcome, self._termination).inc()
        if outcome == "ok":
            metrics.question_duration.observe(self.seconds, exemplar_of(self.span))
            metrics.hops.labels(closed(self.kind, QUESTION_TYPES)).observe(self._hops)
        ending: dict[str, str | int] = {"outcome": outcome, "termination": self._termination, "hops": self._hops}
        self.span.set_attributes({f"hop2rag.question.{name}": value for name, value in ending.items()})
        self.span.set_attribute("hop2rag.question.type", self.kind)


class NodeVisit(Operation):
    """A visit of a graph node by a worker."""

    def __init__(self, recorder: Recorder, parent: Span, worker: str, node: str, hop: int) -> None:
        super().__init__(recorder, recorder.tracer.node(parent, node, hop))
        self._worker, self._label = worker, recorder.metrics.node(node)
        self._active = recorder.metrics.node_active.labels(self._label)
        self._active.inc()
        recorder.activity.enter(worker, self._label)

    def _leave(self) -> None:
        self._recorder.activity.leave(self._worker, self._label)
        self._active.dec()

    def _record(self, metrics: AgentMetrics) -> None:
        self._time(metrics.node_duration.labels(self._label), metrics.node_failures.labels(self._label))


class RetrievalStage(Operation):
    """A stage of retrieval, one of `exporter.agent.instruments.STAGES`."""

    def __init__(self, recorder: Recorder, parent: Span, stage: str, hop: int) -> None:
        super().__init__(recorder, recorder.tracer.stage(parent, stage, hop))
        self._stage = recorder.metrics.stage(stage)
        recorder.busy.change("retrieval", 1)

    def _leave(self) -> None:
        self._recorder.busy.change("retrieval", -1)

    def _record(self, metrics: AgentMetrics) -> None:
        self._time(metrics.retrieval_duration.labels(self._stage), metrics.retrieval_failures.labels(self._stage))


class LlmCall(Operation):
    """An LLM call; it fails for a reason of `exporter.agent.instruments.ERROR_REASONS`.

    Attributes:
        retry: how often the call was sent before, and refused.
        ttft: seconds to the first token, of reasoning or of the answer; None before it, or where the call does not
            stream.
        first_answer: seconds to the first token of the answer, None where the call does not reason.
        usage: the server's count of tokens; set it before `close`.
        is_counted_elsewhere: whether the usage of another call contains its tokens, as that of a batch's first does.
    """

    def __init__(self, recorder: Recorder, parent: Span, node: str, hop: int, retry: int = 0) -> None:
        super().__init__(recorder, recorder.tracer.call(parent, node, hop))
        self.node, self.hop, self.retry = node, hop, retry
        self.ttft: float | None = None
        self.first_answer: float | None = None
        self.usage: Usage | None = None
        self.is_counted_elsewhere = False
        self._labels = recorder.metrics.call(node, hop)
        recorder.busy.change("generation", 1)
        if retry:
            recorder.metrics.llm_retries.labels(self._labels[0]).inc()

    def first_token(self) -> None:
        """Record the time to first token; later calls change nothing."""
        if self.ttft is None:
            self.ttft = self.elapsed()
            self._recorder.metrics.llm_ttft.labels(self._labels[0])  # starts at zero
            self.span.set_attribute(TIME_TO_FIRST_CHUNK, self.ttft)

    def elapsed(self) -> float:
        """Return the seconds since the call was sent."""
        return self._recorder.clock() - self.started

    def reusable(self, tokens: int) -> None:
        """Count the prompt tokens that a prefix cache without eviction could serve."""
        metrics = self._recorder.metrics
        metrics.expect(metrics.reusable_prompt_tokens)
        metrics.reusable_prompt_tokens.labels(*self._labels).inc(tokens)

    def explained(self, fates: Mapping[str, int], chain: Sequence[int] | None) -> None:
        """Count the prompt's tokens by fate, and what could be found of them, in the order of `instruments.CHAIN`."""
        metrics = self._recorder.metrics
        metrics.expect_fates()
        for fate, tokens in fates.items():
            metrics.prompt_token_fates.labels(*self._labels, fate).inc(tokens)
        for place, tokens in zip(CHAIN, chain or (), strict=chain is not None):
            metrics.findable_prompt_tokens.labels(*self._labels, place).inc(tokens)

    def count(self, usage: Usage) -> None:
        """Count the tokens of the call; `close` does so for one that succeeds."""
        metrics = self._recorder.metrics
        metrics.prompt_tokens.labels(*self._labels).inc(usage.prompt_tokens)
        metrics.prompt_size.labels(*self._labels).observe(usage.prompt_tokens)
        metrics.completion_tokens.labels(*self._labels).inc(usage.completion_tokens)
        if usage.cached_tokens is not None:
            metrics.expect(metrics.cached_prompt_tokens)
            metrics.cached_prompt_tokens.labels(*self._labels).inc(usage.cached_tokens)

    def _leave(self) -> None:
        self._recorder.busy.change("generation", -1)

    def _record(self, metrics: AgentMetrics) -> None:
        node = self._labels[0]
        if self.reason is not None:
            metrics.llm_errors.labels(node, closed(self.reason, ERROR_REASONS)).inc()
            return
        exemplar = exemplar_of(self.span)
        metrics.llm_call_duration.labels(node).observe(self.seconds, exemplar)
        if self.ttft is not None:
            metrics.llm_ttft.labels(node).observe(self.ttft, exemplar)
        if self.first_answer is not None:
            metrics.llm_first_answer.labels(node).observe(self.first_answer)
        if self.usage is not None:
            self.count(self.usage)
            set_usage(self.span, self.usage)
        elif not self.is_counted_elsewhere:
            metrics.calls_without_usage.labels(node).inc()


def reason_of_failure(error: BaseException) -> str:
    """Return the reason of an LLM error, "cancelled" for a CancelledError and the like, else the class name."""
    if not isinstance(error, Exception):
        return CANCELLED
    reason = getattr(error, "reason", None)
    return reason if reason in ERROR_REASONS else type(error).__name__
