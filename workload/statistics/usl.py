"""The Universal Scalability Law: X(N) = l N / (1 + s (N - 1) + k N (N - 1)).

l is the throughput of one worker alone, s the share of serial work (contention), k the cost of keeping workers
coherent; a k above zero makes throughput fall beyond N = sqrt((1 - s) / k). N / X is linear in 1 / l, s / l and k / l,
so non-negative least squares on relative errors finds them without starting values. Source: Gunther, "Guerrilla
Capacity Planning", 2007, chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from workload.statistics.resampling import percentile_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.statistics.paired import Interval
    from workload.statistics.throughput import Level

MIN_LEVELS = 6
RESAMPLES = 999


@dataclass(frozen=True)
class Usl:
    """The law's parameters with 95 % intervals: `rate` in requests a second, the others without unit.

    `peak` is the concurrency of the highest throughput, infinite without coherence cost. `misfit` is the root mean
    square of law / measured - 1 over the levels: far above the noise, the law does not describe the system.
    """

    rate: float
    rate_ci: Interval
    contention: float
    contention_ci: Interval
    coherence: float
    coherence_ci: Interval
    peak: float
    peak_ci: Interval
    misfit: float

    def throughput(self, concurrency: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the law's requests a second at `concurrency`, shape (n,)."""
        return _throughput(np.array([self.rate, self.contention, self.coherence]), concurrency)


@dataclass(frozen=True)
class UslFit:
    """The law, or None and the reason why there is none."""

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
        return UslFit(None, "throughput grows faster than concurrency, which the law does not know")
    resampled = np.array([_parameters(concurrency, row) for row in samples[samples.all(axis=1)]])
    intervals = [percentile_interval(column) for column in resampled.T]
    rate, contention, coherence = map(float, parameters)
    law = Usl(
        rate,
        intervals[0],
        contention,
        intervals[1],
        coherence,
        intervals[2],
        peak=float(_peaks(parameters[np.newaxis])[0]),
        peak_ci=percentile_interval(_peaks(resampled)),
        misfit=float(np.sqrt(np.mean(np.square(_throughput(parameters, concurrency) / found - 1)))),
    )
    return UslFit(law)


def _throughput(parameters: NDArray[np.float64], concurrency: NDArray[np.float64]) -> NDArray[np.float64]:
    rate, contention, coherence = parameters
    others = concurrency - 1
    return np.asarray(rate * concurrency / (1 + contention * others + coherence * concurrency * others))


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
