"""The runs of an agent as callbacks tell of them, each opened and closed by its id, recorded in `AgentMetrics`.

A question is a tree of runs: node visits, and within them LLM calls, retriever calls and runs that only lead to those.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN

from exporter.agent.instruments import ERROR_REASONS, OTHER, closed, hop_label
from exporter.agent.spans import NO_SPANS, REQUEST_MODEL, TIME_TO_FIRST_CHUNK, fail, make_current, tell_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from uuid import UUID

    from opentelemetry.trace import Span
    from prometheus_client import Counter, Histogram

    from exporter.agent.busy import BusySeconds
    from exporter.agent.instruments import AgentMetrics
    from exporter.agent.spans import Spans
    from exporter.timeline import NodeActivity

CANCELLED = "cancelled"
IDLE_SECONDS = 3600.0
MAX_OPEN = 10_000  # a thousand questions at a time, of ten open runs each


class Runs:
    """All open runs. Not thread-safe: its caller takes turns.

    A run whose end is never told, as of a process that was killed, would stay for ever. A question in which nothing has
    begun for `IDLE_SECONDS` is closed as cancelled, and the least active ones are where there are more than `MAX_OPEN`
    runs.

    Args:
        clock: seconds, monotonic.
        spans: starts the spans of a trace, if one is exported.
        forgot: called for each question that is closed without having told its end.
    """

    def __init__(
        self,
        metrics: AgentMetrics,
        activity: NodeActivity,
        busy: BusySeconds,
        clock: Callable[[], float],
        spans: Spans = NO_SPANS,
        forgot: Callable[[], None] = lambda: None,
    ) -> None:
        self._metrics = metrics
        self._activity = activity
        self._busy = busy
        self._clock = clock
        self._spans = spans
        self._forgot = forgot
        self._open: dict[UUID, Run] = {}
        self._questions: OrderedDict[Question, None] = OrderedDict()  # the least active first
        self._free: list[int] = []
        self._asked = 0
        self._load = ExitStack()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, run_id: UUID, parent_id: UUID | None, node: str) -> Run:
        """Open a run inside its parent's question; without a known parent it stands alone."""
        parent = self._open.get(parent_id) if parent_id else None
        question, hop, span = (parent.question, parent.hop, parent.span) if parent else (Question(), 1, INVALID_SPAN)
        run = Run(question, node, hop, self._clock(), span)
        run.question.open[run_id] = self._open[run_id] = run
        question.active = run.started
        self._questions[question] = None
        self._questions.move_to_end(question)
        self._forget(run)
        return run

    def find(self, run_id: UUID) -> Run | None:
        """Return an open run."""
        return self._open.get(run_id)

    def close(self, run_id: UUID, reason: str | None = None) -> None:
        """Record a run that ended, or failed for a reason; the end of a question closes what is left open in it.

        A cancelled task does not always tell of the ends inside it.
        """
        run = self._open.pop(run_id, None)
        if run is None:
            return
        del run.question.open[run_id]
        if not run.question.open:
            self._questions.pop(run.question, None)
        if run.is_question:
            for left in list(run.question.open):
                self.close(left, CANCELLED)
        run.reason = reason
        run.timing.close()

    def _forget(self, newest: Run) -> None:
        """Close what nobody will close: other questions, then the oldest runs of this one."""
        while (idle := next(iter(self._questions))) is not newest.question:
            if newest.started - idle.active <= IDLE_SECONDS and len(self._open) <= MAX_OPEN:
                return
            for run_id in list(idle.open):
                self.close(run_id, CANCELLED)
            self._forgot()
        while len(self._open) > MAX_OPEN:
            self.close(next(run_id for run_id, run in idle.open.items() if not run.is_question), CANCELLED)
            self._forgot()

    def ask(self, run: Run) -> None:
        """Take a run for a question."""
        run.is_question = True
        self._trace(run, self._spans.question())
        run.timing.enter_context(self._asking(run))

    def visit(self, run: Run, step: Hashable) -> None:
        """Take a run for a node's visit in a step of the graph."""
        run.hop = run.question.hop(run.node, step)
        self._trace(run, self._spans.node(run.span, run.node, run.hop))
        make_current(run.span)
        run.timing.enter_context(self._visiting(run))

    def retrieve(self, run: Run) -> None:
        """Take a run for a retriever's call, query embedding and search in one."""
        self._trace(run, self._spans.stage(run.span, "search", run.hop))
        run.timing.enter_context(self._busy.busy("retrieval"))
        run.timing.callback(self._retrieved, run)

    def call(self, run: Run, model: str) -> None:
        """Take a run for a call of a language model, "" where its name is not told."""
        self._trace(run, self._spans.call(run.span, run.node, run.hop))
        if model:
            run.span.set_attribute(REQUEST_MODEL, model)
        run.timing.enter_context(self._busy.busy("generation"))
        run.timing.callback(self._count, run)

    def token(self, run_id: UUID) -> None:
        """Note the first token of an LLM call; later ones change nothing."""
        run = self._open.get(run_id)
        if run and run.ttft is None:
            run.ttft = self._age(run)

    def _trace(self, run: Run, span: Span) -> None:
        """Give a run a span of its own, which ends with it."""
        run.span = span

        def end() -> None:
            if run.reason:
                fail(span, run.reason)
            span.end()

        run.timing.callback(end)

    def _age(self, run: Run) -> float:
        return self._clock() - run.started

    @contextmanager
    def _asking(self, run: Run) -> Iterator[None]:
        if not self._asked:
            self._load.enter_context(self._busy.accounting())
        run.question.worker = heappop(self._free) if self._free else self._asked
        self._asked += 1
        yield
        self._asked -= 1
        heappush(self._free, run.question.worker)
        if not self._asked:
            self._load.close()
        outcome = "ok" if run.reason is None else CANCELLED if run.reason == CANCELLED else "failed"
        self._metrics.questions.labels(outcome, "done" if outcome == "ok" else "error").inc()
        if outcome == "ok":
            self._metrics.question_duration.observe(self._age(run))
            self._metrics.hops.labels(OTHER).observe(run.question.hops)

    @contextmanager
    def _visiting(self, run: Run) -> Iterator[None]:
        label, worker = self._metrics.node(run.node), str(run.question.worker)
        active = self._metrics.node_active.labels(label)
        active.inc()
        self._activity.enter(worker, label)
        yield
        self._activity.leave(worker, label)
        active.dec()
        self._time(run, self._metrics.node_duration.labels(label), self._metrics.node_failures.labels(label))

    def _retrieved(self, run: Run) -> None:
        metrics = self._metrics
        self._time(run, metrics.retrieval_duration.labels("search"), metrics.retrieval_failures.labels("search"))

    def _time(self, run: Run, duration: Histogram, failures: Counter) -> None:
        """Observe a run that ended well, and count any other."""
        if run.reason is None:
            duration.observe(self._age(run))
        else:
            failures.inc()

    def _count(self, run: Run) -> None:
        metrics = self._metrics
        node, hop = metrics.llm_node(run.node), hop_label(run.hop)
        if run.reason is not None:
            metrics.llm_errors.labels(node, closed(run.reason, ERROR_REASONS)).inc()
            return
        metrics.llm_call_duration.labels(node).observe(self._age(run))
        if run.ttft is not None:
            metrics.llm_ttft.labels(node).observe(run.ttft)
            run.span.set_attribute(TIME_TO_FIRST_CHUNK, run.ttft)
        if run.usage is None:
            return
        tell_usage(run.span, run.usage.prompt_tokens, run.usage.completion_tokens, run.usage.cached_tokens)
        metrics.prompt_tokens.labels(node, hop).inc(run.usage.prompt_tokens)
        metrics.prompt_size.labels(node, hop).observe(run.usage.prompt_tokens)
        metrics.completion_tokens.labels(node, hop).inc(run.usage.completion_tokens)
        if run.usage.cached_tokens is not None:
            metrics.expect(metrics.cached_prompt_tokens)
            metrics.cached_prompt_tokens.labels(node, hop).inc(run.usage.cached_tokens)


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the server counted them; None where it did not tell."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None


@dataclass(eq=False)
class Question:
    """One question: its open runs, its slot on the timeline, and the steps in which each node has run.

    `active` is when its last run was opened.
    """

    worker: int = 0
    active: float = 0.0
    open: dict[UUID, Run] = field(default_factory=dict)
    steps: dict[str, dict[Hashable, int]] = field(default_factory=dict)

    def hop(self, node: str, step: Hashable) -> int:
        """Return how often the node has run, from 1; visits of the same step count once."""
        steps = self.steps.setdefault(node, {})
        return steps.setdefault(step, len(steps) + 1)

    @property
    def hops(self) -> int:
        """Return the visits of the node that ran most often."""
        return max((len(steps) for steps in self.steps.values()), default=0)


@dataclass
class Run:
    """One open run. Closing `timing` records it; the other fields say what to record.

    `span` is its own, or that of the run it lies in. `reason` says why it failed, and is None when it did not.
    """

    question: Question
    node: str
    hop: int
    started: float
    span: Span
    is_question: bool = False
    ttft: float | None = None
    usage: Usage | None = None
    reason: str | None = None
    timing: ExitStack = field(default_factory=ExitStack)
