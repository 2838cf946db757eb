"""Sums of gauges over time, and the one gauge of an engine whose name has changed."""

from __future__ import annotations

import numpy as np

from workload.analysis.time_series import TimeSeries, peak_of, summed


def test_a_peak_of_a_sum_is_one_that_was_reached() -> None:
    """One GPU falls as the other rises: 10 and 10 were never in use at one instant, so 20 was never the peak."""
    first = TimeSeries(np.array([0.0, 1.0, 2.0]), np.array([10.0, 1.0, 1.0]))
    second = TimeSeries(np.array([0.1, 1.1, 2.1]), np.array([1.0, 10.0, 1.0]))
    whole = summed([first, second])
    assert whole.times.tolist() == [0.1, 1.0, 1.1, 2.0, 2.1]  # before that the second is not known
    assert whole.values.tolist() == [11.0, 2.0, 11.0, 11.0, 2.0]
    assert whole.values.max() == 11.0


def test_what_one_of_several_does_not_report_is_no_sum() -> None:
    """A card without samples is not one without memory."""
    line = TimeSeries(np.array([0.0]), np.array([10.0]))
    assert summed([line]).values.tolist() == [10.0]
    assert summed([line, TimeSeries.empty()]).times.size == summed([]).times.size == 0


def test_a_peak_needs_a_value() -> None:
    """A gauge that was never scraped has no peak, and one gap must not hide the others' peak."""
    assert peak_of(np.empty(0)) is None
    assert peak_of(np.array([1.0, np.nan, 3.0])) == 3.0
