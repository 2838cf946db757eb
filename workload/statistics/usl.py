"""The Universal Scalability Law: X(N) = l N / (1 + s (N - 1) + k N (N - 1)).

l is the throughput of one worker, s the share of serial work (contention), k the cost of keeping workers coherent; with
k above zero, throughput falls beyond N = sqrt((1 - s) / k). N / X is linear in 1 / l, s / l and k / l, so non-negative
least squares on relative errors needs no starting values. Source: Gunther, "Guerrilla Capacity Planning", 2007, ch. 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from scipy.optimize import nnls

from workload.statistics.resampling import bounded, percentile_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.statistics.throughput import Level

Bounds = tuple[float | None, float | None]
MIN_LEVELS = 6
RESAMPLES = 999


class Usl(TypedDict):
    """The law's parameters with 95 % intervals: `rate` in requests per second, the others without unit.

    `peak` is the concurrency of the highest throughput, None without coherence cost; a bound of None is infinite.
    `misfit` is the root mean square of law / measured - 1 over the levels; far above the noise it rejects the law.
    """

    rate: float
    rate_ci: Bounds
    contention: float
    contention_ci: Bounds
    coherence: float
    coherence_ci: Bounds
    peak: float | None
    peak_ci: Bounds
    misfit: float


@dataclass(frozen=True)
class UslFit:
    """The law, or None and the reason."""

    law: Usl | None
    reason: str | None = None


def fit_usl(levels: Sequence[Level], seed: int = 0) -> UslFit:
    """Fit the law to the throughput of levels; its intervals come from resampling each level's requests."""
    distinct = len({level.concurrency for level in levels})
    if distinct < MIN_LEVELS:
        return UslFit(None, f"{distinct} levels of concurrency; the law has three parameters and needs {MIN_LEVELS}")
    found = np.array([level.throughput for level in levels])
    if not found.all():
        return UslFit(None, "nothing succeeded at a level")
    rng = np.random.default_rng(seed)
    concurrency = np.array([level.concurrency for level in levels], dtype=np.float64)
    samples = np.column_stack([level.resampled_throughput(RESAMPLES, rng) for level in levels])
    parameters = _parameters(concurrency, found)
    if not np.isfinite(parameters).all():
        return UslFit(None, "throughput grows faster than concurrency, which the law cannot describe")
    resampled = np.array([_parameters(concurrency, row) for row in samples[samples.all(axis=1)]])
    intervals = [bounded(percentile_interval(column)) for column in resampled.T]
    rate, contention, coherence = map(float, parameters)
    law = Usl(
        rate=rate,
        rate_ci=intervals[0],
        contention=contention,
        contention_ci=intervals[1],
        coherence=coherence,
        coherence_ci=intervals[2],
        peak=bounded(float(_peaks(parameters[np.newaxis])[0])),
        peak_ci=bounded(percentile_interval(_peaks(resampled))),
        misfit=0.0,
    )
    law["misfit"] = float(np.sqrt(np.mean(np.square(throughput(law, concurrency) / found - 1))))
    return UslFit(law)


def throughput(law: Usl, concurrency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the law's requests per second at `concurrency`, shape (n,)."""
    others = concurrency - 1
    serial = law["contention"] * others + law["coherence"] * concurrency * others
    return np.asarray(law["rate"] * concurrency / (1 + serial))


def _parameters(concurrency: NDArray[np.float64], throughput: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (rate, contention, coherence); all infinite when the intercept vanishes."""
    others = concurrency - 1
    columns = np.column_stack([np.ones_like(concurrency), others, concurrency * others])
    seconds = concurrency / throughput
    inverse_rate, contention, coherence = nnls(columns / seconds[:, np.newaxis], np.ones_like(seconds))[0]
    if not inverse_rate:
        return np.full(3, np.inf)
    return np.array([1 / inverse_rate, contention / inverse_rate, coherence / inverse_rate])


def _peaks(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the concurrency of the highest throughput for rows of (rate, contention, coherence)."""
    contention, coherence = parameters[:, 1], parameters[:, 2]
    curved = np.isfinite(coherence) & (coherence > 0)
    room = np.maximum(1 - contention, 0) / np.where(curved, coherence, 1.0)
    return np.where(curved, np.maximum(np.sqrt(np.where(curved, room, 0.0)), 1.0), np.inf)
