"""Intervals from resamples, for every fit that has an interval."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.statistics.paired import LEVEL, Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def percentile_interval(samples: NDArray[np.float64]) -> Interval:
    """Return the 95 % percentile interval of bootstrap `samples`, shape (resamples,); they may be infinite."""
    # An order statistic, because nothing lies between a number and infinity.
    low, high = np.quantile(samples, TAILS, method="inverted_cdf")
    return float(low), float(high)


def ratios(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / whole elementwise; where `whole` is not positive, infinity with the sign of `part`.

    A resample whose linear part vanished means "beyond any bound" and must not return with the opposite sign.
    """
    positive = whole > 0
    return np.where(positive, part / np.where(positive, whole, 1.0), np.copysign(np.inf, part))


def wild_responses(
    design: NDArray[np.float64], response: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return wild-bootstrap responses, shape (resamples, n): the least-squares fit plus residuals of random sign.

    Each residual stays at its own point, so noise that grows with the context keeps growing with it. Residuals are
    divided by 1 - leverage (HC3). Source: Davidson and Flachaire 2008, doi:10.1016/j.jeconom.2008.08.003.

    `design` has the shape (n, parameters), `response` (n,).
    """
    basis, _ = np.linalg.qr(design)
    fitted = basis @ (basis.T @ response)
    leverage = np.minimum(np.square(basis).sum(axis=1), 1 - 1e-9)
    signs = rng.integers(0, 2, (resamples, len(response))) * 2 - 1
    return np.asarray(fitted + signs * ((response - fitted) / (1 - leverage)), dtype=np.float64)


def bounded(value: float | Sequence[float]) -> Any:
    """Return a number or an interval with None for each infinity."""
    if isinstance(value, Sequence):
        return [bounded(part) for part in value]
    return value if isfinite(value) else None
