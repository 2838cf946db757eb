"""A wall is a strong word: noise, a straight line and smooth curvature must not earn it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from workload.statistics.growth import fit_growth
from workload.statistics.wall import is_wall, slope_ratio

Floats = NDArray[np.float64]
TOKENS: Floats = np.repeat(np.linspace(256, 8192, 12), 4)
RELATIVE: Floats = TOKENS / 8192
LINE: Floats = np.asarray(0.02 + 0.3 * RELATIVE)
WALL: Floats = np.asarray(LINE + 0.3 * np.maximum(RELATIVE - 0.5, 0))
SLIGHT: Floats = np.asarray(0.02 + 0.3 * RELATIVE * (1 + 0.126 * RELATIVE))
SMOOTH: Floats = np.asarray(0.02 + 0.3 * RELATIVE * (1 + 1.33 * RELATIVE))


def walls(seconds: Floats, noise: float, runs: int) -> float:
    """Return the share of noisy data sets in which a wall is found."""
    rng = np.random.default_rng(1)
    found = []
    for seed in range(runs):
        times = np.asarray(seconds + noise * seconds.mean() * rng.standard_normal(len(seconds)))
        found.append(is_wall(fit_growth(TOKENS, times), slope_ratio(TOKENS, times, seed, 199)))
    return float(np.mean(found))


def test_a_planted_wall_is_found_where_it_is() -> None:
    """Knot and ratio must be the planted ones, with intervals that contain them."""
    times = np.asarray(WALL + 0.002 * np.random.default_rng(2).standard_normal(len(TOKENS)))
    found = slope_ratio(TOKENS, times)
    assert found.knot_ci[0] <= 4096 <= found.knot_ci[1]
    assert found.ci[0] <= 2.0 <= found.ci[1]
    assert found.ratio == pytest.approx(2.0, rel=0.1)
    assert walls(WALL, 0.02, 30) >= 0.9


@pytest.mark.parametrize("seconds", [LINE, SLIGHT, SMOOTH], ids=["line", "slight", "smooth"])
def test_no_wall_where_there_is_none(seconds: Floats) -> None:
    """Smooth quadratic growth is what theory expects; calling it a wall would invent a cause to look for."""
    assert walls(seconds, 0.02, 80) <= 0.05


def test_the_best_hinge_alone_would_call_smooth_growth_a_wall() -> None:
    """The wrong way, for comparison: the interval of the ratio excludes 1 for any curve."""
    found = slope_ratio(TOKENS, SMOOTH)
    assert found.ci[0] > 1
    assert not is_wall(fit_growth(TOKENS, SMOOTH), found)


def test_an_easing_slope_is_no_wall() -> None:
    """A slope that falls excludes 1 too, from the other side."""
    times = np.asarray(LINE - 0.2 * np.maximum(RELATIVE - 0.5, 0))
    growth, found = fit_growth(TOKENS, times), slope_ratio(TOKENS, times)
    assert growth.chosen.shape == "hinge"
    assert found.ci[1] < 1
    assert not is_wall(growth, found)


def test_a_wall_after_a_flat_start_has_an_endless_ratio() -> None:
    """Nothing until 4k and then growth: the ratio divides by zero, and must not come back negative."""
    rng = np.random.default_rng(4)
    times = 0.1 + 0.3 * np.maximum(RELATIVE - 0.5, 0) + 0.003 * rng.standard_normal(len(TOKENS))
    found = slope_ratio(TOKENS, np.asarray(times))
    assert found.ci[0] > 1
    assert found.ci[1] == np.inf


def test_too_few_lengths_are_refused() -> None:
    """A hinge through five lengths fits anything."""
    with pytest.raises(ValueError, match="6 lengths"):
        slope_ratio(np.array([1.0, 2, 3, 4, 5, 5, 5, 5]), np.ones(8))
