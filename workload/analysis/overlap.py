"""How long each resource was busy, alone and together, from spans with their real starts and ends."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.statistics.paired import Interval

RETRIEVAL: Final = "retrieval"
GENERATION: Final = "generation"
Activity = Literal["retrieval_only", "generation_only", "both", "neither"]


@dataclass(frozen=True)
class Span:
    """One stretch of work, in seconds on one clock: its resource, worker, question and hop."""

    resource: str
    start: float
    end: float
    worker: str = ""
    question: str = ""
    _: KW_ONLY
    hop: int = 1

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.end - self.start


@dataclass(frozen=True)
class CriticalPath:
    """The longest chain of tasks that need each other: its length in seconds, and the tasks in order."""

    seconds: float
    tasks: tuple[str, ...]


def busy_union(spans: Iterable[Span], window: Interval) -> list[Interval]:
    """Return the disjoint stretches of the window, in order, in which at least one span ran."""
    united: list[Interval] = []
    for span in sorted(spans, key=lambda span: span.start):
        start, end = max(span.start, window[0]), min(span.end, window[1])
        if end <= start:
            continue
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((start, end))
    return united


def busy_seconds(spans: Iterable[Span], window: Interval) -> dict[str, float]:
    """Return the busy seconds of each resource in the spans; the rest of the window is idle."""
    by_resource: dict[str, list[Span]] = {}
    for span in spans:
        by_resource.setdefault(span.resource, []).append(span)
    return {resource: _length(found, window) for resource, found in by_resource.items()}


def activities(spans: Sequence[Span], window: Interval) -> dict[Activity, float]:
    """Return the window's seconds by activity; the four add up to the window, as `hop2rag_busy_seconds_total` does."""
    retrieval = _length((span for span in spans if span.resource == RETRIEVAL), window)
    generation = _length((span for span in spans if span.resource == GENERATION), window)
    either = _length((span for span in spans if span.resource in {RETRIEVAL, GENERATION}), window)
    return {
        "retrieval_only": either - generation,
        "generation_only": either - retrieval,
        "both": retrieval + generation - either,
        "neither": window[1] - window[0] - either,
    }


def serial_seconds(spans: Iterable[Span]) -> float:
    """Return the time all spans would take one after the other."""
    return sum(span.seconds for span in spans)


def critical_path(seconds: Mapping[str, float], needs: Mapping[str, Iterable[str]]) -> CriticalPath:
    """Return the longest chain of tasks: no schedule on any number of machines is shorter.

    Args:
        seconds: duration of each task.
        needs: the tasks whose results each task reads, not all that merely ran before it.

    Raises:
        graphlib.CycleError: tasks need each other in a circle.
        KeyError: a needed task has no duration.
    """
    finish: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for task in TopologicalSorter({task: needs.get(task, ()) for task in seconds}).static_order():
        before[task] = max(needs.get(task, ()), key=finish.__getitem__, default=None)
        finish[task] = seconds[task] + max((finish[need] for need in needs.get(task, ())), default=0.0)
    step = last = max(finish, key=finish.__getitem__, default=None)
    path: list[str] = []
    while step is not None:
        path.append(step)
        step = before[step]
    return CriticalPath(finish[last] if last is not None else 0.0, tuple(reversed(path)))


def _length(spans: Iterable[Span], window: Interval) -> float:
    return sum(end - start for start, end in busy_union(spans, window))
