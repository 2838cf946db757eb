"""How throughput grows with concurrency: the efficiency of each level against one question at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.analysis.resampling import percentile_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.analysis.paired import Interval
    from workload.analysis.throughput import Level

RESAMPLES = 1_999
# With 5 requests a 95 % interval held the truth in 87 to 90 % of data sets, with 10 in 89 to 92 %.
MIN_REQUESTS = 10


@dataclass(frozen=True)
class Efficiency:
    """E = X(N) / (N X(1)); 95 % interval, or None when either level has fewer than `MIN_REQUESTS`."""

    concurrency: int
    requests: int
    throughput: float
    efficiency: float
    ci: Interval | None


def efficiencies(levels: Sequence[Level], seed: int = 0) -> tuple[Efficiency, ...]:
    """Return the efficiency of each level, in the order given; at concurrency 1 it is 1 by definition.

    Raises:
        ValueError: no level has concurrency 1, or nothing succeeded there.
    """
    alone = next((level for level in levels if level.concurrency == 1), None)
    if alone is None or not alone.throughput:
        raise ValueError("Efficiency needs a level of concurrency 1 with successes.")
    rng = np.random.default_rng(seed)
    base = alone.resampled_throughput(RESAMPLES, rng)
    return tuple(_efficiency(level, alone, base, rng) for level in levels)


def _efficiency(level: Level, alone: Level, base: NDArray[np.float64], rng: np.random.Generator) -> Efficiency:
    efficiency = level.throughput / (level.concurrency * alone.throughput)
    ci = None
    if level.concurrency == 1:
        ci = (1.0, 1.0)
    elif min(len(level.cycle_seconds), len(alone.cycle_seconds)) >= MIN_REQUESTS:
        samples = level.resampled_throughput(RESAMPLES, rng) / level.concurrency
        positive = base > 0
        ci = percentile_interval(samples[positive] / base[positive])
    return Efficiency(level.concurrency, len(level.cycle_seconds), level.throughput, efficiency, ci)
