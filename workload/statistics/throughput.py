"""Throughput of one level of load in answers per second, with its interval, and the efficiency of levels.

A closed loop of N workers fills at its start and drains at its end, so over the whole run it answers less than N busy
workers do. It is therefore observed from the first to the last instant at which all N are busy. Counting answers that
end in this window would omit those in flight at its end; counting those that start in it would omit the first wave and
include the drain. So each answer counts by the share of its own time inside the window. With few questions per worker
this overestimates by about c^2 / 2r, where r is their number and c their spread (standard deviation over mean): all
workers begin a question at the start, and at a later instant long questions are more likely to be in flight
(benchmarks/intervals.py).

An open loop has no such N, and shares would mislead, because time in a growing queue is not work. There the answers
that end between the first answer and the last arrival are counted.

The efficiency of a level compares it with one question at a time: how throughput grows with concurrency.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from scipy.stats import t

from workload.statistics.paired import LEVEL, Interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


CLOSED = "answers, each by the share of its time between the first and the last instant at which all workers were busy"
OPEN = "answers that ended between the first answer and the last arrival"

MIN_REQUESTS = 6


@dataclass(frozen=True)
class Request:
    """One request of one worker: seconds from start to end, and whether it succeeded."""

    start: float
    end: float
    succeeded: bool = True


@dataclass(frozen=True, eq=False)
class Level:
    """The requests of a closed loop in the window in which all its workers were busy.

    Attributes:
        concurrency: workers.
        cycle_seconds: seconds in the window of each request and the pause after it, shape (requests,).
        answered: the share of each request's time in the window, 0 for a failed one, shape (requests,).
    """

    concurrency: int
    cycle_seconds: NDArray[np.float64]
    answered: NDArray[np.float64]

    @property
    def throughput(self) -> float:
        """Answers per second; the cycles add up to N times the window."""
        return float(self.concurrency * self.answered.sum() / self.cycle_seconds.sum())

    @property
    def seconds(self) -> float:
        """The length of the window."""
        return float(self.cycle_seconds.sum() / self.concurrency)

    @property
    def relative_error(self) -> float:
        """Standard error of the throughput over the throughput: of a ratio of two means over at least 2 requests."""
        n = len(self.cycle_seconds)
        residuals = self.concurrency * self.answered - self.throughput * self.cycle_seconds
        spread = np.sqrt(n / (n - 1) * np.square(residuals).sum())
        return float(spread / (self.concurrency * self.answered.sum()))

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the throughput by Student's t; None for fewer than `MIN_REQUESTS` requests, or no answer.

        A bootstrap of so few requests would cover the truth in only 86 to 91 % of data sets (benchmarks/analysis.py).
        """
        if len(self.cycle_seconds) < MIN_REQUESTS or not self.answered.any():
            return None
        return around(self.throughput, self.relative_error, len(self.cycle_seconds))

    def resampled_throughput(self, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the throughput of requests drawn with replacement, shape (resamples,)."""
        drawn = rng.integers(0, len(self.cycle_seconds), (resamples, len(self.cycle_seconds)))
        seconds = self.cycle_seconds[drawn].sum(axis=1)
        return np.asarray(self.concurrency * self.answered[drawn].sum(axis=1) / seconds, dtype=np.float64)


def around(value: float, relative_error: float, n: int) -> Interval:
    """Return the 95 % interval of a rate above 0 whose relative standard error was estimated from `n` requests."""
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * relative_error
    return value * max(0.0, 1 - half), value * (1 + half)


def full_window(workers: Sequence[Sequence[Request]]) -> Interval | None:
    """Return the first and the last instant at which all workers were busy; None if they never were.

    `workers` has the requests of each worker, in order.
    """
    edges = [edge for requests in workers for start, end in _apart(requests) for edge in ((start, 1), (end, -1))]
    busy, first, last = 0, None, None
    for at, change in sorted(edges):  # at one instant, ends come first
        if busy == len(workers):
            last = at
        busy += change
        if busy == len(workers) and first is None:
            first = at
    return None if first is None or last is None else (first, last)


def full_level(workers: Sequence[Sequence[Request]]) -> Level | None:
    """Return the level of these workers, each of concurrency 1; None if they were never all busy."""
    window = full_window(workers)
    if window is None:
        return None
    parts = [part for requests in workers for part in _parts(requests, window)]
    seconds, answered = np.array(parts, dtype=np.float64).T
    return Level(len(workers), seconds, answered)


def _apart(requests: Sequence[Request]) -> Iterator[Interval]:
    """Yield the intervals in which a worker was busy; time that overlaps because of two clocks counts once."""
    until = -np.inf
    for request in requests:
        start = max(request.start, until)
        if request.end > start:
            yield start, request.end
            until = request.end


def _parts(requests: Sequence[Request], window: Interval) -> Iterator[tuple[float, float]]:
    """Yield the seconds of its cycle and its answered share for each request in the window."""
    following = [*(after.start for _, after in pairwise(requests)), requests[-1].end]
    for request, after in zip(requests, following, strict=True):
        if request.end > window[0] and request.start < window[1]:
            cycle, taken = (_shared((request.start, end), window) for end in (after, request.end))
            seconds = request.end - request.start
            yield cycle, request.succeeded * (taken / seconds if seconds else 1.0)


def _shared(one: Interval, other: Interval) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


class Efficiency(TypedDict):
    """E = X(N) / (N X(1)) with its 95 % interval, None if either level has fewer than `MIN_REQUESTS`."""

    concurrency: int
    requests: int
    throughput: float
    efficiency: float
    ci: Interval | None


def efficiencies(levels: Sequence[Level]) -> tuple[Efficiency, ...]:
    """Return the efficiency of each level, in the order given; at concurrency 1 it is 1 by definition.

    Raises:
        ValueError: no level has concurrency 1, or nothing succeeded at it.
    """
    alone = next((level for level in levels if level.concurrency == 1), None)
    if alone is None or not alone.throughput:
        raise ValueError("Efficiency needs a level of concurrency 1 with successes.")
    return tuple(_efficiency(level, alone) for level in levels)


def _efficiency(level: Level, alone: Level) -> Efficiency:
    efficiency = level.throughput / (level.concurrency * alone.throughput)
    requests = min(len(level.cycle_seconds), len(alone.cycle_seconds))
    ci = None
    if level.concurrency == 1:
        ci = (1.0, 1.0)
    elif requests >= MIN_REQUESTS and efficiency:
        ci = around(efficiency, hypot(level.relative_error, alone.relative_error), requests)
    n, rate = len(level.cycle_seconds), level.throughput
    return Efficiency(concurrency=level.concurrency, requests=n, throughput=rate, efficiency=efficiency, ci=ci)
