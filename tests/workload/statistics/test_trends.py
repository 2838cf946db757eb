"""Drifts that are there are found, drifts that are not there are not, and too little is said to be too little."""

from __future__ import annotations

import numpy as np
import pytest

from workload.statistics.trends import MIN_BINS, MIN_PER_BIN, median, share, trend

HOUR = 3600.0


def drifting(per_hour: float, hours: float = 8.0, n: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return times and values around 10 with heavy-tailed noise and a drift."""
    random = np.random.default_rng(seed)
    times = np.sort(random.uniform(0, hours * HOUR, n))
    return times, 10 + per_hour * times / HOUR + random.lognormal(0, 1, n)


@pytest.mark.parametrize("per_hour", [0.5, -0.3])
def test_a_known_drift_is_measured(per_hour: float) -> None:
    """The slope is that of the medians, whatever the tail does."""
    found = trend(*drifting(per_hour), median, 0, 8 * HOUR)
    assert found is not None
    assert found.ci_per_hour[0] < per_hour < found.ci_per_hour[1]
    assert found.is_shown
    assert found.share == pytest.approx(per_hour * 7.2 / 11, rel=0.4)


def test_no_drift_is_rarely_called_one() -> None:
    """At 95 % one in twenty may be; a long run must not be condemned by noise."""
    found = [trend(*drifting(0.0, seed=seed), median, 0, 8 * HOUR) for seed in range(100)]
    assert sum(one is not None and one.is_shown for one in found) <= 12


def test_outliers_move_nothing() -> None:
    """One hour in which a neighbour took the CPU is no drift of the engine."""
    times, values = drifting(0.0)
    values[(times > 3 * HOUR) & (times < 3.5 * HOUR)] += 500
    found = trend(times, values, median, 0, 8 * HOUR)
    assert found is not None
    assert abs(found.slope_per_hour) < 0.1


def test_the_beginning_is_left_out() -> None:
    """A cache that fills at the start would be a decline for ever after."""
    times, values = drifting(0.0)
    values[times < 0.75 * HOUR] += 100
    found = trend(times, values, median, 0, 8 * HOUR)
    assert found is not None
    assert found.level < 20
    assert not found.is_shown


def test_too_little_is_no_trend() -> None:
    """Three minutes say nothing about hours: the result says so instead of giving an enormous interval."""
    times, values = drifting(0.0, n=(MIN_BINS - 1) * MIN_PER_BIN)
    assert trend(times, values, median, 0, 8 * HOUR) is None
    assert trend(times[:0], values[:0], median, 0, 8 * HOUR) is None
    short, many = drifting(0.0, hours=0.05)
    assert trend(short, many, median, 0, 0.05 * HOUR) is None


def test_a_share_is_of_sums_and_gaps_are_left_out() -> None:
    """A mean of ratios is no ratio; a pause in which nothing was asked is a gap, not a zero."""
    times = np.concatenate([np.linspace(0, 3 * HOUR, 500), np.linspace(6 * HOUR, 8 * HOUR, 500)])
    tokens = np.column_stack([np.tile([100.0, 900.0], 500), np.tile([100.0, 0.0], 500)])
    found = trend(times, tokens, share, 0, 8 * HOUR)
    assert found is not None
    assert found.level == pytest.approx(0.1, abs=0.01)
    assert len(found.values) < 48
    assert np.isnan(share(np.zeros((1, 2))))
