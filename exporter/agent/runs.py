"""The runs of an app as LangChain's callbacks report them, opened and closed by id, and recorded by a `Recorder`.

A question is a tree of runs: node visits, and within them LLM calls, retriever calls and runs that only lead to those.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import ExitStack
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any
from weakref import ref

from opentelemetry.trace import INVALID_SPAN

from exporter.agent.current_span import make_current
from exporter.agent.recorder import CANCELLED, AgentQuestion, LlmCall, NodeVisit, Recorder, RetrievalStage
from exporter.agent.run_tree import Place, Run, RunTree, Waiting, WaitingQuestions
from exporter.agent.spans import REQUEST_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from uuid import UUID


IDLE_SECONDS = 3600.0
MAX_OPEN = 10_000  # a thousand questions at a time, with ten open runs each
MAX_CLOSED = 5_000
CLOSED_SECONDS = 60.0


class Runs:
    """All open runs. Not thread-safe: the caller serializes its calls.

    A run may outlive its question, as work in the background does: it stays open, and the runs that it starts belong to
    that question. So closed runs are remembered for a minute, `MAX_CLOSED` at most.

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
        self._closed: OrderedDict[UUID, tuple[float, Run]] = OrderedDict()
        self._trees: OrderedDict[RunTree, None] = OrderedDict()  # the least recently active first
        self.waiting = WaitingQuestions()
        self._free_workers: list[int] = []
        self._questions = 0
        self._accounting = ExitStack()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, run_id: UUID, parent_id: UUID | None, node: str = "", *, scope: str = "", thread: str = "") -> Run:
        """Open a run inside its parent's question; a run without a known parent stands alone."""
        now = self._recorder.clock()
        parent = self._find(parent_id, now) if parent_id else None
        tree = parent.tree if parent else RunTree()
        run = Run(
            id=run_id,
            tree=tree,
            node=node or (parent.node if parent else ""),
            scope=scope or (parent.scope if parent else ""),
            thread=thread or (parent.thread if parent else ""),
            hop=parent.hop if parent else 1,
            span=parent.span if parent else INVALID_SPAN,
            is_scope=parent is not None and scope not in {"", parent.scope},
            place=parent.place if parent else Place(),
            parent_id=parent_id,
            task=current_task(),
        )
        tree.open[run_id] = run.place.open[run_id] = self._open[run_id] = run
        tree.active = now
        self._trees[tree] = None
        self._trees.move_to_end(tree)
        self._drop(tree)
        return run

    def knows(self, run_id: UUID | None) -> bool:
        """Return whether a run is open, or was within the last minute."""
        return run_id is not None and self._find(run_id, self._recorder.clock()) is not None

    def call_of(self, run_id: UUID) -> LlmCall | None:
        """Return the LLM call of an open run."""
        run = self._open.get(run_id)
        return run.operation if run and isinstance(run.operation, LlmCall) else None

    def cancelled_call_of(self, run_id: UUID) -> LlmCall | None:
        """Return the LLM call of a run that was closed as cancelled a short while ago: its tokens may still arrive."""
        _, run = self._closed.get(run_id, (0.0, None))
        call = run.operation if run else None
        return call if isinstance(call, LlmCall) and call.reason == CANCELLED else None

    def ask(self, run: Run) -> None:
        """Record a run as a question, unless it lies in one."""
        tree = run.tree
        if tree.question:
            return
        if not self._questions:
            self._accounting.enter_context(self._recorder.busy.accounting())
        tree.worker = heappop(self._free_workers) if self._free_workers else self._questions
        self._questions += 1
        run.question = tree.question = AgentQuestion(self._recorder)
        run.span = tree.question.span

    def visit(self, run: Run, step: Hashable) -> None:
        """Record a run as a node visit in a step of the graph."""
        parent = self._open.get(run.parent_id) if run.parent_id else None
        steps = (parent or run).step_inside(step)
        del run.place.open[run.id]
        run.place = Place(steps)
        run.hop = run.tree.steps[run.node].hop(steps)
        run.record(self._new_visit(run))
        run.leave = make_current(run.span)
        if parent:
            parent.visits.add(run.id)

    def retrieve(self, run: Run) -> None:
        """Record a run as a retriever's call, query embedding and search in one."""
        run.record(self._new_stage(run))

    def call(self, run: Run, model: str) -> LlmCall:
        """Record a run as a call of a language model, "" where its name is unknown, and return the call."""
        call = self._new_call(run)
        run.record(call)
        if model:
            run.span.set_attribute(REQUEST_MODEL, model)
        return call

    def close(self, run_id: UUID, reason: str | None = None) -> None:
        """Record a run that ended, or failed for a reason."""
        if run := self._take(run_id, reason):
            if run.operation:
                run.operation.close(reason)
            if run.question:
                self._end(run, run.question, reason)

    def abandon(self, run_id: UUID) -> None:
        """Close a run that neither succeeded nor failed."""
        if run := self._take(run_id):
            if run.operation:
                run.operation.abandon()
            if run.question:
                self._end(run, run.question)

    def suspend(self, run_id: UUID) -> None:
        """Note that the graph stops for a person, in a run that is the graph itself or one of its nodes."""
        run = self._open.get(run_id)
        if run and not run.is_inside_visit:
            run.tree.is_suspended, run.tree.thread = True, run.thread

    def resume(self, run_id: UUID) -> None:
        """Continue the question that waits in the thread of a graph's run; it replaces the one that the run began."""
        run = self._open.get(run_id)
        if run is None or run.is_inside_visit or not (begun := run.tree.question):
            return
        if waiting := self.waiting.take(run.thread):
            question, tree = waiting.question, run.tree
            question.started = begun.started - waiting.seconds
            tree.question, tree.steps = question, waiting.steps
            for opened in tree.open.values():
                opened.span = opened.span if opened.operation else question.span
                opened.question = question if opened.question else None

    def _new_visit(self, run: Run) -> NodeVisit:
        return NodeVisit(self._recorder, run.span, str(run.tree.worker), run.node, run.hop)

    def _new_stage(self, run: Run) -> RetrievalStage:
        return RetrievalStage(self._recorder, run.span, "search", run.hop)

    def _new_call(self, run: Run) -> LlmCall:
        return LlmCall(self._recorder, run.span, run.node, run.hop)

    def _find(self, run_id: UUID, now: float) -> Run | None:
        """Return a run that is open, or was within the last minute."""
        closed_at, run = self._closed.get(run_id, (now, None))
        return self._open.get(run_id) or (run if now - closed_at <= CLOSED_SECONDS else None)

    def _take(self, run_id: UUID, reason: str | None = None) -> Run | None:
        """Remove an open run, and close the runs that cannot outlive it.

        A node visit ends with its graph at the latest, a run with its task. A question that failed or was cancelled
        ends every run in it, because a cancelled task does not always report the ends inside it.
        """
        run = self._open.pop(run_id, None)
        if run is None:
            return None
        tree = run.tree
        del tree.open[run_id]
        run.place.open.pop(run_id, None)
        if not tree.open:
            self._trees.pop(tree, None)
        if parent := self._open.get(run.parent_id) if run.parent_id else None:
            parent.visits.discard(run_id)
        over = [inner.id for inner in run.place.open.values() if inner.is_over] if run.is_visit or run.question else []
        for inner in [*run.visits, *over, *(tree.open if run.question and reason else ())]:
            self.close(inner, CANCELLED)
        run.leave()
        if reason == CANCELLED or not isinstance(run.operation, LlmCall | RetrievalStage):
            self._remember(run)
        return run

    def _remember(self, run: Run) -> None:
        """Remember a run that may have started work in the background, or whose tokens may still arrive."""
        now = self._recorder.clock()
        self._closed[run.id] = now, run
        while len(self._closed) > MAX_CLOSED or now - next(iter(self._closed.values()))[0] > CLOSED_SECONDS:
            self._closed.popitem(last=False)

    def _end(self, run: Run, question: AgentQuestion, reason: str | None = None) -> None:
        tree, now = run.tree, self._recorder.clock()
        self._questions -= 1
        heappush(self._free_workers, tree.worker)
        if not self._questions:
            self._accounting.close()
        if tree.is_suspended and reason in {None, CANCELLED}:
            self.waiting.put(tree.thread, Waiting(question, now - question.started, tree.steps, now))
        else:
            self.waiting.forget(run.thread)
            question.end("done" if reason is None else "error", tree.hops, reason)

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


def current_task() -> ref[asyncio.Task[Any]] | None:
    """Return the running asyncio task, None outside of an event loop."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return ref(task) if task else None
