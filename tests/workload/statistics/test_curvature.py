"""'Linear' from too few or too noisy calls is no finding, so the share has an interval and the design a power."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from workload.statistics.curvature import power, quadratic_share

Floats = NDArray[np.float64]
TOKENS: Floats = np.repeat(np.linspace(256, 8192, 12), 4)
RELATIVE: Floats = TOKENS / 8192


def sweep(share: float, noise: float, seed: int, *, grows: bool = False) -> Floats:
    """Return times with a planted share; noise is a share of the mean time, or of each time."""
    seconds = 0.02 + 0.3 * RELATIVE * (1 + share * RELATIVE)
    draw = np.random.default_rng(seed).standard_normal(len(seconds))
    return np.asarray(seconds + noise * draw * (seconds if grows else seconds.mean()))


@pytest.mark.parametrize("share", [0.126, 1.33])
def test_a_planted_share_without_noise_is_returned(share: float) -> None:
    """The share must be the same quantity as the one expected from the model's config."""
    found = quadratic_share(TOKENS, sweep(share, 0, 0))
    assert found.tokens == 8192
    assert found.share == pytest.approx(share)


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.126, 1.33])
def test_the_interval_holds_the_truth(share: float, grows: bool) -> None:
    """A 95 % interval that contains the truth in 80 % of runs would prove things that are not so."""
    found = [quadratic_share(TOKENS, sweep(share, 0.02, seed, grows=grows), seed, 399).ci for seed in range(120)]
    assert np.mean([low <= share <= high for low, high in found]) >= 0.89


def test_a_straight_line_is_not_called_superlinear() -> None:
    """False findings stay near 2.5 %, also where noise grows with the context."""
    found = [
        quadratic_share(TOKENS, sweep(0.0, 0.05, seed, grows=True), seed, 399).is_superlinear for seed in range(120)
    ]
    assert np.mean(found) <= 0.08


def test_characters_over_four_would_plant_a_curvature() -> None:
    """The trap: with chars / 4 for tokens, text that gets denser with the context bends a straight line."""
    seconds = sweep(0.0, 0.01, 3)
    estimated = TOKENS * (1.2 - 0.2 * RELATIVE)
    assert not quadratic_share(TOKENS, seconds).is_superlinear
    assert quadratic_share(estimated, seconds).is_superlinear


def test_all_prompt_tokens_instead_of_uncached_ones_would_hide_a_curvature() -> None:
    """Prefill works on what is not cached, so calls must be placed where their work is."""
    cached = np.where(np.arange(len(TOKENS)) % 2 == 0, 0.0, TOKENS * 0.5)
    uncached = TOKENS - cached
    relative = uncached / 8192
    draw = np.random.default_rng(5).standard_normal(len(TOKENS))
    seconds = np.asarray(0.02 + 0.3 * relative * (1 + 0.126 * relative) + 0.002 * draw)
    right, wrong = quadratic_share(uncached, seconds), quadratic_share(TOKENS, seconds)
    assert right.ci[0] <= 0.126 <= right.ci[1]
    assert wrong.ci[1] - wrong.ci[0] > 5 * (right.ci[1] - right.ci[0])


def test_stated_power_is_the_rate_of_findings() -> None:
    """The stated power must come true: for the same design and noise, in other data sets."""
    stated = power(TOKENS, sweep(0.0, 0.06, 7), 0.126, simulations=200)
    found = [quadratic_share(TOKENS, sweep(0.126, 0.06, seed), seed, 399).is_superlinear for seed in range(150)]
    assert 0.2 < stated < 0.98
    assert stated == pytest.approx(np.mean(found), abs=0.2)


def test_power_grows_with_the_curvature_and_is_the_false_rate_at_none() -> None:
    """Power that does not move with what is planted would be no power."""
    seconds = sweep(0.0, 0.03, 11)
    rates = [power(TOKENS, seconds, share, simulations=120) for share in (0.0, 0.1, 0.3, 1.0)]
    assert rates == sorted(rates)
    assert rates[0] <= 0.08
    assert rates[-1] >= 0.99


def test_a_growth_without_a_linear_part_is_beyond_any_bound() -> None:
    """A share whose linear part vanishes must not come out negative or small."""
    found = quadratic_share(TOKENS, np.asarray(0.1 - 0.01 * RELATIVE + RELATIVE**2))
    assert found.share == np.inf
    assert found.is_superlinear


def test_two_lengths_are_refused() -> None:
    """A parabola through two lengths is not determined."""
    with pytest.raises(ValueError, match="3 lengths"):
        quadratic_share(np.array([1.0, 1, 1, 2, 2]), np.ones(5))
