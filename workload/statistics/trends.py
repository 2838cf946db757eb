"""Whether a quantity drifts over a long run: the median of all slopes, with an interval robust against outliers.

The slope is that of Theil and Sen: the median over all pairs of bins of (y_j - y_i) / (t_j - t_i), with Sen's interval
(Sen 1968, doi:10.1080/01621459.1968.10480934). It compares bins in time, not single questions: questions that ran at
the same time are correlated, and an interval that took them for independent would be too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import theilslopes

from workload.statistics.paired import LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MIN_BINS, MAX_BINS = 8, 48
MIN_PER_BIN = 10
MIN_SECONDS = 300.0
"""Five minutes are too short for a slope per hour."""

WARM_UP_SHARE = 0.1
"""The share of a run omitted at its beginning, where caches fill, code is loaded and pools grow."""

SLIGHT_SHARE = 0.05
"""A drift over the whole run of less than this share of the level is called slight, however significant it is."""


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A drift.

    Attributes:
        level: the median of the bins, in the quantity's unit.
        slope_per_hour: the drift, in that unit per hour.
        ci_per_hour: its 95 % interval.
        hours: the length of the time analysed.
        times, values: the bins' middles in seconds since the epoch, and their values, shape (bins,).
    """

    level: float
    slope_per_hour: float
    ci_per_hour: tuple[float, float]
    hours: float
    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def is_shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.ci_per_hour[0] > 0 or self.ci_per_hour[1] < 0

    @property
    def share(self) -> float | None:
        """The drift over the time analysed as a share of the level; None if the level is 0."""
        return self.slope_per_hour * self.hours / self.level if self.level else None


def trend(
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    reduce: Callable[[NDArray[np.float64]], float],
    start: float,
    end: float,
) -> Trend | None:
    """Return the drift of a quantity between `start` and `end`, or None if there are too few values.

    Args:
        times: seconds since the epoch, shape (n,).
        values: shape (n,) or (n, columns).
        reduce: reduces the values of a bin to one, NaN for none.
        start: the run's start in seconds since the epoch; its first tenth is omitted.
        end: the run's end.
    """
    start += WARM_UP_SHARE * (end - start)
    inside = (times >= start) & (times <= end)
    if end - start < MIN_SECONDS:
        return None
    count = min(MAX_BINS, int(inside.sum()) // MIN_PER_BIN)
    if count < MIN_BINS:
        return None
    edges = np.linspace(start, end, count + 1)
    place = np.clip(np.searchsorted(edges, times[inside], side="right") - 1, 0, count - 1)
    kept = values[inside]
    binned = np.array([reduce(kept[place == number]) if (place == number).any() else np.nan for number in range(count)])
    middles = (edges[1:] + edges[:-1]) / 2
    known = np.isfinite(binned)
    if known.sum() < MIN_BINS:
        return None
    found = theilslopes(binned[known], (middles[known] - start) / 3600, alpha=LEVEL)
    return Trend(
        level=float(np.median(binned[known])),
        slope_per_hour=float(found.slope),
        ci_per_hour=(float(found.low_slope), float(found.high_slope)),
        hours=(end - start) / 3600,
        times=tuple(middles[known].tolist()),
        values=tuple(binned[known].tolist()),
    )


def median(values: NDArray[np.float64]) -> float:
    """Return the median of a bin."""
    return float(np.median(values))


def share(values: NDArray[np.float64]) -> float:
    """Return the sum of the second column over the sum of the first; NaN if that is 0."""
    whole = float(values[:, 0].sum())
    return float(values[:, 1].sum()) / whole if whole else float("nan")
