"""Percentiles of raw values, with intervals that assume nothing about their distribution.

The number of values below the p-quantile is binomial(n, p), so the quantile lies between the l-th and the u-th smallest
value with probability P(l <= K <= u - 1). The widest pair is (1, n), with probability 1 - p^n - (1 - p)^n: below 59
values for P95, and 299 for P99, even that is no 95 % interval. Source: David and Nagaraja, "Order Statistics", 3rd
edition 2003, section 7.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom

from workload.analysis.paired import LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.analysis.paired import Interval

REPORTED = (0.50, 0.95, 0.99)
# 0.95 x 60 must be the 57th value, whatever its last binary digit.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Percentile:
    """The smallest of `n` values with at least a share `p` of them at or below it; 95 % interval, or None."""

    p: float
    n: int
    value: float
    ci: Interval | None

    @property
    def note(self) -> str:
        """What stands beside the point in a figure."""
        return f"n={self.n}" if self.ci else f"n={self.n}, no CI"


def smallest_sample(p: float, level: float = LEVEL) -> int:
    """Return the number of values from which the p-quantile, 0 < p < 1, has an interval of confidence `level`."""
    return next(n for n in count(1) if 1 - p**n - (1 - p) ** n >= level)


def ranks(n: int, p: float, level: float = LEVEL) -> tuple[int, int] | None:
    """Return the closest ranks (l, u), from 1, whose order statistics hold the p-quantile with confidence `level`.

    Of pairs equally close, the one with the highest confidence; None below `smallest_sample`.
    """
    below = binom.cdf(np.arange(n), n, p)
    lows = np.arange(1, n + 1)
    # P(l <= K <= u - 1) = cdf(u - 1) - cdf(l - 1); no u above n is a value.
    highs = np.searchsorted(below, level + below) + 1
    possible = highs <= n
    if not possible.any():
        return None
    lows, highs = lows[possible], highs[possible]
    confidence = below[highs - 1] - below[lows - 1]
    best = np.lexsort((-confidence, highs - lows))[0]
    return int(lows[best]), int(highs[best])


def percentile(values: Sequence[float] | NDArray[np.float64], p: float) -> Percentile:
    """Return the p-quantile of raw values, shape (n,), in their unit.

    Raises:
        ValueError: there is no value, or one is not a number.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not ordered.size or np.isnan(ordered[-1]):
        raise ValueError(f"A percentile of {ordered.size} values, or of values that are no numbers, is not defined.")
    pair = ranks(ordered.size, p)
    ci = (float(ordered[pair[0] - 1]), float(ordered[pair[1] - 1])) if pair else None
    return Percentile(p, ordered.size, float(ordered[ceil(ordered.size * p - ROUNDING) - 1]), ci)


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> tuple[Percentile, ...]:
    """Return P50, P95 and P99 of raw values, shape (n,); raises as `percentile` does."""
    return tuple(percentile(values, p) for p in REPORTED)
