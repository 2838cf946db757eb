"""The runs of an app as LangChain's callbacks report them, opened and closed by id, and recorded by a `Recorder`.

A question is a tree of runs: node visits, and within them LLM calls, retriever calls and runs that only lead to those.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN, Span

from exporter.agent.recorder import CANCELLED, AgentQuestion, LlmCall, NodeVisit, Operation, Recorder, RetrievalStage
from exporter.agent.spans import REQUEST_MODEL, make_current

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from uuid import UUID


IDLE_SECONDS = 3600.0
MAX_OPEN = 10_000  # a thousand questions at a time, with ten open runs each


class Runs:
    """All open runs. Not thread-safe: the caller serializes its calls.

    A run whose end is never reported, for instance because a worker was killed, would stay forever. So a question in
    which no run has started for `IDLE_SECONDS` is closed as cancelled, and the least recently active ones are too while
    more than `MAX_OPEN` runs are open.

    Args:
        on_dropped: called for each question or run that is closed without a report of its end.
    """

    def __init__(self, recorder: Recorder, on_dropped: Callable[[], None] = lambda: None) -> None:
        self._recorder = recorder
        self._on_dropped = on_dropped
        self._open: dict[UUID, Run] = {}
        self._trees: OrderedDict[RunTree, None] = OrderedDict()  # the least recently active first
        self._free_workers: list[int] = []
        self._questions = 0
        self._accounting = ExitStack()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, run_id: UUID, parent_id: UUID | None, node: str) -> Run:
        """Open a run inside its parent's question; a run without a known parent stands alone."""
        parent = self._open.get(parent_id) if parent_id else None
        tree, hop, span = (parent.tree, parent.hop, parent.span) if parent else (RunTree(), 1, INVALID_SPAN)
        run = Run(tree=tree, node=node, hop=hop, span=span)
        tree.open[run_id] = self._open[run_id] = run
        tree.active = self._recorder.clock()
        self._trees[tree] = None
        self._trees.move_to_end(tree)
        self._drop(tree)
        return run

    def call_of(self, run_id: UUID) -> LlmCall | None:
        """Return the LLM call of an open run."""
        run = self._open.get(run_id)
        return run.operation if run and isinstance(run.operation, LlmCall) else None

    def close(self, run_id: UUID, reason: str | None = None) -> None:
        """Record a run that ended, or failed for a reason; the end of a question closes every run still open in it.

        A cancelled task does not always report the ends inside it.
        """
        run = self._open.pop(run_id, None)
        if run is None:
            return
        del run.tree.open[run_id]
        if not run.tree.open:
            self._trees.pop(run.tree, None)
        if run.question:
            for still_open in list(run.tree.open):
                self.close(still_open, CANCELLED)
        run.leave()
        if run.operation:
            run.operation.close(reason)
        if run.question:
            self._end(run.question, run.tree, reason)

    def _drop(self, newest: RunTree) -> None:
        """Close runs whose end will not be reported: other questions, then the oldest runs of this one."""
        while (idle := next(iter(self._trees))) is not newest:
            if newest.active - idle.active <= IDLE_SECONDS and len(self._open) <= MAX_OPEN:
                return
            for run_id in list(idle.open):
                self.close(run_id, CANCELLED)
            self._on_dropped()
        while len(self._open) > MAX_OPEN:
            self.close(next(run_id for run_id, run in idle.open.items() if not run.question), CANCELLED)
            self._on_dropped()

    def ask(self, run: Run) -> None:
        """Record a run as a question."""
        if not self._questions:
            self._accounting.enter_context(self._recorder.busy.accounting())
        run.tree.worker = heappop(self._free_workers) if self._free_workers else self._questions
        self._questions += 1
        run.question = AgentQuestion(self._recorder)
        run.span = run.question.span

    def visit(self, run: Run, step: Hashable) -> None:
        """Record a run as a node visit in a step of the graph."""
        run.hop = run.tree.hop(run.node, step)
        run.record(NodeVisit(self._recorder, run.span, str(run.tree.worker), run.node, run.hop))
        run.leave = make_current(run.span)

    def retrieve(self, run: Run) -> None:
        """Record a run as a retriever's call, query embedding and search in one."""
        run.record(RetrievalStage(self._recorder, run.span, "search", run.hop))

    def call(self, run: Run, model: str) -> None:
        """Record a run as a call of a language model, "" where its name is unknown."""
        run.record(LlmCall(self._recorder, run.span, run.node, run.hop))
        if model:
            run.span.set_attribute(REQUEST_MODEL, model)

    def _end(self, question: AgentQuestion, tree: RunTree, reason: str | None) -> None:
        self._questions -= 1
        heappush(self._free_workers, tree.worker)
        if not self._questions:
            self._accounting.close()
        question.end("done" if reason is None else "error", tree.hops, reason)


@dataclass(eq=False)
class RunTree:
    """The runs of one question: those that are open, its worker slot, and the steps in which each node has run.

    `active` is when its last run was opened.
    """

    worker: int = 0
    active: float = 0.0
    open: dict[UUID, Run] = field(default_factory=dict)
    steps: dict[str, dict[Hashable, int]] = field(default_factory=dict)

    def hop(self, node: str, step: Hashable) -> int:
        """Return how often the node has run, from 1; visits in the same step count once."""
        steps = self.steps.setdefault(node, {})
        return steps.setdefault(step, len(steps) + 1)

    @property
    def hops(self) -> int:
        """Return the visits of the node that ran most often."""
        return max((len(steps) for steps in self.steps.values()), default=0)


@dataclass(kw_only=True)
class Run:
    """One open run. `span` is its own, or that of the run it lies in; `leave` makes its span current no longer."""

    tree: RunTree
    node: str
    hop: int
    span: Span
    question: AgentQuestion | None = None
    operation: Operation | None = None
    leave: Callable[[], None] = lambda: None

    def record(self, operation: Operation) -> None:
        """Set the run's operation and span."""
        self.operation, self.span = operation, operation.span
