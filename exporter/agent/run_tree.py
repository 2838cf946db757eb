"""One run of an app, the runs of one question, and the questions that wait for a person."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.registry import Collector

from exporter.agent.instruments import waiting_family
from exporter.agent.recorder import NodeVisit

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Hashable, Iterator
    from uuid import UUID
    from weakref import ref

    from opentelemetry.trace import Span
    from prometheus_client.core import GaugeMetricFamily

    from exporter.agent.recorder import AgentQuestion, Operation

MAX_WAITING = 1_000
WAITING_SECONDS = 24 * 3600.0
RECENT_STEPS = 1_000


class Steps:
    """The steps in which a node has run; of a node that runs for days only the latest are distinguished."""

    def __init__(self) -> None:
        self.number = 0
        self._hops: OrderedDict[Hashable, int] = OrderedDict()

    def hop(self, step: Hashable) -> int:
        """Return the number of a step, from 1; visits in the same step count once."""
        if step not in self._hops:
            self.number += 1
            self._hops[step] = self.number
            if len(self._hops) > RECENT_STEPS:
                self._hops.popitem(last=False)
        return self._hops[step]


@dataclass
class Place:
    """Where runs lie: in a node visit, identified by the steps that lead to it, or outside of all visits.

    Attributes:
        steps: for each visit from the outermost one, the number of its graph in the visit around it, and its step.
        graphs: how many graphs have run here.
        open: the open runs here, without node visits.
    """

    steps: tuple[Hashable, ...] = ()
    graphs: int = 0
    open: dict[UUID, Run] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class RunTree:
    """The runs of one question, or of a call outside of any.

    Attributes:
        worker: the question's slot on the timeline.
        question: the question, also after its end.
        is_suspended: whether the graph has stopped for a person.
        thread: the id of the thread in which the graph has stopped.
        active: when its last run was opened.
        open: the open runs.
        steps: the steps in which each node has run.
    """

    worker: int = 0
    question: AgentQuestion | None = None
    is_suspended: bool = False
    thread: str = ""
    active: float = 0.0
    open: dict[UUID, Run] = field(default_factory=dict)
    steps: defaultdict[str, Steps] = field(default_factory=lambda: defaultdict(Steps))

    @property
    def hops(self) -> int:
        """Return the steps of the node that ran most often."""
        return max((steps.number for steps in self.steps.values()), default=0)


@dataclass(kw_only=True, eq=False)
class Run:
    """One run.

    Attributes:
        id: its id.
        tree: its question's runs.
        node: the node that it lies in, "" outside of nodes.
        scope: the checkpoint namespace of that node's visit, "" where it is unknown.
        thread: the id of the app's thread, "" if it is unknown.
        hop: that node's hop.
        span: its own span, or that of the run that it lies in.
        is_scope: whether it begins the visit that `scope` names.
        place: the place that it lies in; of a node visit, the visit itself.
        graph: the number of the graph that it is, in that place.
        parent_id: the run directly around it.
        task: the asyncio task in which it began, None outside of an event loop.
        visits: the node visits directly inside it.
        question: the question that it is.
        operation: the operation that it is.
        leave: ends the time in which its span is current.
    """

    id: UUID
    tree: RunTree
    node: str
    scope: str
    thread: str
    hop: int
    span: Span
    is_scope: bool
    place: Place
    graph: int = 0
    parent_id: UUID | None = None
    task: ref[Task[Any]] | None = None
    visits: set[UUID] = field(default_factory=set)
    question: AgentQuestion | None = None
    operation: Operation | None = None
    leave: Callable[[], None] = lambda: None

    @property
    def is_inside_visit(self) -> bool:
        """Whether a node visit encloses it."""
        return bool(self.place.steps[self.is_visit :])

    @property
    def is_visit(self) -> bool:
        """Whether it is a node visit."""
        return isinstance(self.operation, NodeVisit)

    @property
    def is_over(self) -> bool:
        """Whether its task has ended, so that its own end will never be reported: LangChain loses cancelled calls."""
        if self.task is None:
            return False
        task = self.task()
        return task is None or task.done()

    def step_inside(self, step: Hashable) -> tuple[Hashable, ...]:
        """Return the steps that lead to a visit directly inside this run, which is a graph, or a visit with tasks."""
        if self.is_visit:
            return *self.place.steps, step
        if not self.graph:
            self.place.graphs += 1
            self.graph = self.place.graphs
        return *self.place.steps, (self.graph, step)

    def record(self, operation: Operation) -> None:
        """Set the run's operation and span."""
        self.operation, self.span = operation, operation.span


@dataclass(frozen=True)
class Waiting:
    """A question that waits for a person: the seconds that it ran, its nodes' steps, and when it began to wait."""

    question: AgentQuestion
    seconds: float
    steps: defaultdict[str, Steps]
    since: float


class WaitingQuestions(Collector):
    """The questions that wait, by thread; the longest waiting are forgotten beyond `MAX_WAITING` or a day.

    A question that is never resumed has not ended, so it is not counted as one that did.
    """

    def __init__(self) -> None:
        self._by_thread: OrderedDict[str, Waiting] = OrderedDict()
        self._have_waited = False

    def __len__(self) -> int:
        return len(self._by_thread)

    def put(self, thread: str, waiting: Waiting) -> None:
        """Keep a question until its thread is resumed."""
        self.forget(thread)
        self._by_thread[thread] = waiting
        self._have_waited = True
        while len(self) > MAX_WAITING or waiting.since - next(iter(self._by_thread.values())).since > WAITING_SECONDS:
            self.forget(next(iter(self._by_thread)))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge, once a question has waited; an app without interrupts has no such series."""
        if self._have_waited:
            yield waiting_family(len(self))

    def take(self, thread: str) -> Waiting | None:
        """Return the question that waits in a thread, which then waits no longer."""
        return self._by_thread.pop(thread, None)

    def forget(self, thread: str) -> None:
        """Drop the question that waits in a thread, if there is one."""
        if waiting := self.take(thread):
            waiting.question.abandon()
