"""Turns a journal's rows into spans on one clock, load by load, with their node, hop, worker and question."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from workload.analysis.overlap import GENERATION, RETRIEVAL, Span, busy_union
from workload.record.results import Measured, Row, RunData, overlaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from workload.record.window import Window
    from workload.statistics.paired import Interval


class Stretches(TypedDict):
    """Number, sum, share of the load and longest of some stretches of time."""

    count: int
    seconds: float
    share: float | None
    longest_seconds: float


@dataclass(frozen=True)
class MeasuredLoad:
    """The load of one closed window: its rows, and the interval with questions in flight (s since the epoch).

    The window itself is longer: it begins and ends with a scrape, while no question is in flight. `uncounted` are calls
    that do not count but kept the engine busy meanwhile, such as a warm-up after its restart.
    """

    measured: Measured
    interval: Interval
    questions: Sequence[Row]
    calls: Sequence[Row]
    visits: Sequence[Row]
    _: KW_ONLY
    stages: Sequence[Row]
    prefetches: Sequence[Row] = ()
    uncounted: Sequence[Row] = ()

    @property
    def window(self) -> Window:
        """The window."""
        return self.measured.window

    @property
    def seconds(self) -> float:
        """How long questions were in flight."""
        return self.interval[1] - self.interval[0]

    @property
    def workers(self) -> tuple[str, ...]:
        """The workers that sent questions, in order."""
        return tuple(sorted({row["worker"] for row in self.questions}, key=lambda name: (len(name), name)))

    @property
    def retrievals(self) -> list[Span]:
        """Embedding, search and reranking, and the searches for all drafts, used or not."""
        return [span_of(row, RETRIEVAL) for row in (*self.stages, *self.prefetches)]

    @property
    def generations(self) -> list[Span]:
        """The LLM calls, with failed ones, which kept the engine busy too."""
        spans = [
            Span(GENERATION, row["started_at"], row["started_at"] + row["duration_seconds"]) for row in self.uncounted
        ]
        return [*(span_of(row, GENERATION) for row in self.calls), *spans]


def measured_loads(data: RunData) -> list[MeasuredLoad]:
    """Return the loads of a run in the order of their windows.

    A window without questions, or whose questions took no time, has no load.
    """
    found = []
    for measured in data.measured:
        window = measured.window
        place = (window.arm, window.block, window.point, window.segment)
        questions, calls, visits, stages, prefetches = (
            [row for row in rows if (row["arm"], row["block"], row["phase"], row["segment"]) == place]
            for rows in (data.questions, data.calls, data.visits, data.stages, data.prefetches)
        )
        ended = [row for row in questions if row["duration_seconds"] is not None]
        start = min((row["intended_at"] for row in ended), default=0.0)
        end = max((row["intended_at"] + row["duration_seconds"] for row in ended), default=0.0)
        if end > start:
            uncounted = [row for row in data.uncounted if overlaps(row, start, end)]
            load = MeasuredLoad(
                measured,
                (start, end),
                questions,
                calls,
                visits,
                stages=stages,
                prefetches=prefetches,
                uncounted=uncounted,
            )
            found.append(load)
    return found


def span_of(row: Row, resource: str) -> Span:
    """Return the span of a call, visit or stage."""
    start = row["started_at"]
    return Span(resource, start, start + row["duration_seconds"], row["worker"], row["question_id"], hop=row["hop"])


def pauses(busy: Sequence[Interval], window: Interval) -> list[Interval]:
    """Return the stretches of a window outside all of `busy`, which are disjoint and in order."""
    edges = [window[0], *(edge for stretch in busy for edge in stretch), window[1]]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start]


def shared_seconds(one: Iterable[Span], other: Iterable[Span], window: Interval) -> float:
    """Return the time in a window during which spans of both `one` and `other` ran."""
    return sum(
        max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
        for first in busy_union(one, window)
        for second in busy_union(other, window)
    )


def lies_in(times: NDArray[np.float64], stretches: Sequence[Interval]) -> NDArray[np.bool_]:
    """Return for each instant, shape (n,), whether it lies in a stretch, ends excluded."""
    inside = np.zeros(len(times), dtype=np.bool_)
    for start, end in stretches:
        inside |= (times >= start) & (times < end)
    return inside


def active_at(instant: float, visits: Iterable[Row]) -> Row | None:
    """Return the visit that ran at an instant; None unless there is exactly one."""
    found = [row for row in visits if 0 <= instant - row["started_at"] < row["duration_seconds"]]
    return found[0] if len(found) == 1 else None


def describe(stretches: Sequence[Interval], seconds: float) -> Stretches:
    """Return the stretches of a load of `seconds`."""
    lengths = [end - start for start, end in stretches]
    total = sum(lengths)
    return {
        "count": len(lengths),
        "seconds": total,
        "share": total / seconds if seconds else None,
        "longest_seconds": max(lengths, default=0.0),
    }
