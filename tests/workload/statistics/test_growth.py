"""A wrong shape turns into a wrong verdict: linear for a model that is not, or a wall where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from workload.statistics.growth import Shape, fit_growth

Floats = NDArray[np.float64]
TOKENS: Floats = np.repeat(np.linspace(256, 8192, 12), 4)
RELATIVE: Floats = TOKENS / 8192
TRUTHS: dict[Shape, Floats] = {
    "constant": np.full_like(TOKENS, 0.3),
    "linear": 0.02 + 0.3 * RELATIVE,
    "quadratic": 0.02 + 0.3 * RELATIVE * (1 + 0.126 * RELATIVE),
    "hinge": 0.02 + 0.3 * RELATIVE + 0.15 * np.maximum(RELATIVE - 0.5, 0),
}


def noisy(seconds: Floats, noise: float, seed: int) -> Floats:
    """Return times with normal noise of `noise` times their mean."""
    draw = np.random.default_rng(seed).standard_normal(len(seconds))
    return np.asarray(seconds + noise * float(seconds.mean()) * draw)


@pytest.mark.parametrize("shape", TRUTHS)
def test_a_planted_shape_is_chosen(shape: Shape) -> None:
    """Each shape can be the truth, so each must be found: in at least 85 of 100 noisy data sets."""
    chosen = [fit_growth(TOKENS, noisy(TRUTHS[shape], 0.01, seed)).chosen.shape for seed in range(100)]
    assert chosen.count(shape) >= 85


@pytest.mark.parametrize("shape", TRUTHS)
def test_a_shape_without_noise_is_chosen(shape: Shape) -> None:
    """Rounding leaves the larger shapes a smaller residual; that is no reason to choose them."""
    assert fit_growth(TOKENS, TRUTHS[shape]).chosen.shape == shape


def test_the_lowest_residual_alone_would_never_choose_a_line() -> None:
    """The wrong way, for comparison: by residuals or R^2 every straight line is a curve."""
    growth = fit_growth(TOKENS, noisy(TRUTHS["linear"], 0.05, 1))
    residuals = {
        shape: np.square(noisy(TRUTHS["linear"], 0.05, 1) - fit.seconds(TOKENS)).sum()
        for shape, fit in growth.fits.items()
    }
    assert min(residuals, key=residuals.__getitem__) != "linear"
    assert growth.chosen.shape == "linear"


def test_coefficients_are_in_seconds_and_tokens() -> None:
    """The report prints them with units, so the scaling inside the fit must not leak out."""
    fits = fit_growth(TOKENS, TRUTHS["quadratic"]).fits
    assert fits["quadratic"].coefficients == pytest.approx((0.02, 0.3 / 8192, 0.3 * 0.126 / 8192**2))
    hinge = fit_growth(TOKENS, TRUTHS["hinge"]).fits["hinge"]
    assert hinge.knot_tokens == pytest.approx(4096, rel=0.03)
    assert hinge.coefficients[2] == pytest.approx(0.15 / 8192, rel=0.05)


@given(st.lists(st.integers(1, 10_000), min_size=4, max_size=30), st.integers(0, 2**32 - 1))
def test_the_choice_is_within_a_tie_of_the_best(tokens: list[int], seed: int) -> None:
    """Whatever the lengths, something is chosen, and never a shape that AICc rejects."""
    x = np.array(tokens, dtype=np.float64)
    growth = fit_growth(x, np.random.default_rng(seed).uniform(0.1, 1, len(x)))
    assert growth.chosen.aicc <= min(fit.aicc for fit in growth.fits.values()) + 2
    assert all(np.isfinite(fit.seconds(x)).all() for fit in growth.fits.values())


def test_two_lengths_give_only_a_constant() -> None:
    """A line through two lengths always fits; it is no evidence of growth by itself."""
    growth = fit_growth(np.array([100.0, 100, 100, 200, 200, 200]), np.array([1.0, 1.1, 0.9, 2.0, 2.1, 1.9]))
    assert set(growth.fits) == {"constant"}


def test_too_few_calls_are_refused() -> None:
    """Three points are on some parabola; a smoke run must be reported as too short, not fitted."""
    with pytest.raises(ValueError, match="3 token counts"):
        fit_growth(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]))
