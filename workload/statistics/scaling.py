"""How throughput grows with concurrency: the efficiency of each level against one question at a time."""

from __future__ import annotations

from math import hypot
from typing import TYPE_CHECKING, TypedDict

from workload.statistics.throughput import MIN_REQUESTS, around

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.statistics.paired import Interval
    from workload.statistics.throughput import Level


class Efficiency(TypedDict):
    """E = X(N) / (N X(1)); 95 % interval, or None when either level has fewer than `MIN_REQUESTS`."""

    concurrency: int
    requests: int
    throughput: float
    efficiency: float
    ci: Interval | None


def efficiencies(levels: Sequence[Level]) -> tuple[Efficiency, ...]:
    """Return the efficiency of each level, in the order given; at concurrency 1 it is 1 by definition.

    Raises:
        ValueError: no level has concurrency 1, or nothing succeeded there.
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
