"""Percentiles of raw values, with intervals that assume nothing about their distribution.

The number of values below the p-quantile is binomial(n, p), so the quantile lies between the l-th and the u-th smallest
value with probability P(l <= K <= u - 1). The widest pair is (1, n), with probability 1 - p^n - (1 - p)^n: below 59
values for P95, and 299 for P99, even that does not reach 95 %. Source: David and Nagaraja, "Order Statistics", 3rd
edition 2003, section 7.1.

A percentile is given only if at least one value lies beyond it: P95 from 20 values on, P99 from 100. The P99 of fewer
values would be their maximum. The median is always given.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from scipy.stats import binom

from workload.statistics.paired import LEVEL, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


MEDIAN = 0.50
REPORTED = (MEDIAN, 0.95, 0.99)
NEEDED = "P95 needs 20, P99 100"
# The 0.95-quantile of 60 values must be the 57th, although 0.95 x 60 is not exactly 57 in floating point.
ROUNDING = 1e-9


class Percentile(TypedDict):
    """The smallest of `n` values with at least a share `p` of them at or below it, with its 95 % interval or None.

    The value is None if `n` values do not suffice, see `is_given`.
    """

    p: float
    n: int
    value: float | None
    ci: Interval | None


def is_given(n: float, p: float) -> bool:
    """Return whether `n` values have a p-quantile: always for the median, else if one value lies beyond it."""
    return n > 0 and (p == MEDIAN or n * min(p, 1 - p) >= 1 - ROUNDING)


def quantile(values: Sequence[float] | NDArray[np.float64], p: float) -> float | None:
    """Return the p-quantile of raw values, shape (n,), interpolated; None if they are too few."""
    return float(np.quantile(values, p)) if is_given(len(values), p) else None


def ranks(n: int, p: float, level: float = LEVEL) -> tuple[int, int] | None:
    """Return the closest ranks (l, u), from 1, whose order statistics enclose the p-quantile with confidence `level`.

    Among equally close pairs the one with the highest confidence wins; None if `n` values are too few.
    """
    below = binom.cdf(np.arange(n), n, p)
    lows = np.arange(1, n + 1)
    # P(l <= K <= u - 1) = cdf(u - 1) - cdf(l - 1); ranks above n do not exist.
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
        ValueError: there are no values, or one is NaN.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not ordered.size or np.isnan(ordered[-1]):
        raise ValueError(f"A percentile needs at least one value and no NaN; there are {ordered.size} values.")
    pair = ranks(ordered.size, p)
    ci = (float(ordered[pair[0] - 1]), float(ordered[pair[1] - 1])) if pair else None
    value = float(ordered[ceil(ordered.size * p - ROUNDING) - 1]) if is_given(ordered.size, p) else None
    return Percentile(p=p, n=ordered.size, value=value, ci=ci)


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> list[Percentile]:
    """Return P50, P95 and P99 of raw values, shape (n,); raises as `percentile` does."""
    return [percentile(values, p) for p in REPORTED]
