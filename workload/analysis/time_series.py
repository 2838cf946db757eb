"""One quantity over time, sums of several, and the gauge of KV cache usage under any of its names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.analysis.spans import lies_in
from workload.promql.gpu_memory import FAST_JOB, KV_USAGE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.record.evidence import Evidence
    from workload.record.window import Window
    from workload.services.prometheus import Series
    from workload.statistics.paired import Interval


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """One quantity over time: `times` in seconds since the epoch, ascending, and `values`, both of shape (n,)."""

    times: NDArray[np.float64]
    values: NDArray[np.float64]

    @staticmethod
    def empty() -> TimeSeries:
        """Return the series of a quantity that was not reported."""
        return TimeSeries(np.empty(0), np.empty(0))

    def within(self, stretches: Sequence[Interval]) -> NDArray[np.float64]:
        """Return the values whose instants lie in a stretch."""
        return self.values[lies_in(self.times, stretches)]

    def clipped(self, interval: Interval) -> TimeSeries:
        """Return the part that lies in an interval, both ends included."""
        inside = (self.times >= interval[0]) & (self.times <= interval[1])
        return TimeSeries(self.times[inside], self.values[inside])

    @property
    def resolution_seconds(self) -> float | None:
        """The median distance between samples: the series cannot show anything shorter."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else None


def summed(series: Sequence[TimeSeries | Series]) -> TimeSeries:
    """Return the sum of gauges at every instant at which all are known; a value counts until the next one.

    The peak of this sum was really reached; the sum of the gauges' own peaks may never have been.
    """
    known = [one for one in series if one.times.size]
    if not known or len(known) < len(series):
        return TimeSeries.empty()
    start = max(one.times[0] for one in known)
    times = np.unique(np.concatenate([one.times for one in known]))
    times = times[times >= start]
    values = [one.values[np.searchsorted(one.times, times, side="right") - 1] for one in known]
    return TimeSeries(times, np.sum(values, axis=0))


def peak_of(values: NDArray[np.float64]) -> float | None:
    """Return the highest of `values`, shape (n,); None if there are none."""
    return float(np.nanmax(values)) if values.size else None


def kv_usage(evidence: Evidence, window: Window) -> Sequence[Series]:
    """Return each engine's KV cache usage, 0 to 1, under the name that its vLLM version uses; empty if not scraped."""
    return next((found for name in KV_USAGE_NAMES if (found := evidence.stored(name, window, job=FAST_JOB))), ())
