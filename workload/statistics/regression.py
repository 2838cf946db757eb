"""Whether paired times regressed: one-sided bounds of the median ratio, which assume nothing about the noise.

A bound is an order statistic: the k-th smallest of n ratios lies above their median with probability P(B < k), where B
is binomial(n, 1/2). Source: David and Nagaraja, "Order Statistics", 3rd edition 2003, section 7.1. If the median
changed by no more than the tolerance, a lower bound above it is a false alarm, of probability `alpha` at most.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from scipy.stats import binom

if TYPE_CHECKING:
    from collections.abc import Mapping

Verdict = Literal["pass", "fail", "undecided"]


class Bounds(TypedDict):
    """The median of `n` paired changes b / a - 1, and its one-sided bounds; None where `n` pairs are too few."""

    n: int
    change: float | None
    low: float | None
    high: float | None


def bounds(a: Mapping[str, float], b: Mapping[str, float], alpha: float) -> Bounds:
    """Return the bounds of the change from `a` to `b`, question -> value, each missed with probability `alpha`."""
    shared = sorted(name for name in a.keys() & b.keys() if a[name] > 0)
    ratios = np.sort(np.array([b[name] / a[name] - 1 for name in shared]))
    n = len(ratios)
    if not n:
        return {"n": 0, "change": None, "low": None, "high": None}
    k = _rank(n, alpha)
    low, high = (float(ratios[k - 1]), float(ratios[n - k])) if k else (None, None)
    return {"n": n, "change": float(np.median(ratios)), "low": low, "high": high}


@cache
def _rank(n: int, alpha: float) -> int:
    """Return the largest k with P(B < k) of at most `alpha`; 0 if even the smallest ratio is no bound."""
    k = int(binom.ppf(alpha, n, 0.5)) + 1
    while k and binom.cdf(k - 1, n, 0.5) > alpha:
        k -= 1
    return k


def judged(found: Bounds, tolerance: float) -> Verdict:
    """Return whether times regressed by more than a tolerance: shown, excluded, or neither."""
    if found["low"] is None or found["high"] is None:
        return "undecided"
    return "fail" if found["low"] > tolerance else "pass" if found["high"] <= tolerance else "undecided"
