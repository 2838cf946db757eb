"""Three parameters through four points always fit; the law is only worth drawing from six levels on."""

from __future__ import annotations

import numpy as np
import pytest

from workload.statistics.throughput import Level
from workload.statistics.usl import fit_usl, throughput

LEVELS = (1, 2, 4, 8, 16, 32)


def planted(contention: float, coherence: float, spread: float, seed: int) -> list[Level]:
    """Return levels whose mean cycle follows the law with a rate of 2 requests a second."""
    rng = np.random.default_rng(seed)
    return [
        Level(
            n,
            0.5 * (1 + contention * (n - 1) + coherence * n * (n - 1)) * rng.lognormal(-(spread**2) / 2, spread, 60),
            np.ones(60),
        )
        for n in LEVELS
    ]


def test_a_planted_curve_without_noise_is_returned() -> None:
    """Parameters, peak and the curve drawn must be the planted ones."""
    law = fit_usl(planted(0.05, 0.002, 0.0, 0)).law
    assert law is not None
    assert (law["rate"], law["contention"], law["coherence"]) == pytest.approx((2.0, 0.05, 0.002))
    assert law["peak"] == pytest.approx(np.sqrt(0.95 / 0.002))
    expected = [level.throughput for level in planted(0.05, 0.002, 0.0, 0)]
    assert throughput(law, np.array(LEVELS, dtype=np.float64)) == pytest.approx(expected)


def test_intervals_hold_the_truth() -> None:
    """A peak drawn into a figure is believed, so the parameters behind it need honest intervals."""
    laws = [fit_usl(planted(0.05, 0.002, 0.2, seed), seed).law for seed in range(40)]
    held = [
        law is not None
        and law["contention_ci"][0] <= 0.05 <= law["contention_ci"][1]
        and law["coherence_ci"][0] <= 0.002 <= law["coherence_ci"][1]
        for law in laws
    ]
    assert np.mean(held) >= 0.82


def test_slow_levels_do_not_drown_the_fast_ones() -> None:
    """Cycles at 32 take fifty times those at 1, and so does their noise: only relative errors keep the rate exact."""
    laws = [fit_usl(planted(0.05, 0.05, 0.2, seed), seed).law for seed in range(25)]
    rates = [law["rate"] for law in laws if law]
    assert np.sqrt(np.mean(np.square(np.array(rates) / 2.0 - 1))) < 0.04


def test_without_coherence_cost_no_peak_is_claimed() -> None:
    """Noise makes a small coherence; its interval must reach zero, and the peak's must have no end."""
    laws = [fit_usl(planted(0.1, 0.0, 0.2, seed), seed).law for seed in range(30)]
    claimed = [law is not None and law["coherence_ci"][0] > 0 for law in laws]
    assert np.mean(claimed) <= 0.1
    assert all(law is not None and (law["coherence_ci"][0] > 0 or law["peak_ci"][1] is None) for law in laws)


def test_five_levels_give_a_reason_instead_of_a_curve() -> None:
    """The report prints the reason in the place of the curve."""
    fit = fit_usl(planted(0.05, 0.0, 0.1, 0)[:5])
    assert fit.law is None
    assert "5 levels" in str(fit.reason)


def test_a_level_without_success_gives_a_reason() -> None:
    """A level where everything failed is no point of the curve."""
    levels = planted(0.05, 0.0, 0.1, 0)
    levels[-1] = Level(32, np.ones(60), np.zeros(60, dtype=np.bool_))
    assert fit_usl(levels).reason == "nothing succeeded at a level"


def test_a_law_that_does_not_describe_the_system_says_so() -> None:
    """Batching can make more workers more than proportionally fast; the law has no parameter for that."""
    levels = [Level(n, np.full(60, 1 / n), np.ones(60)) for n in LEVELS]
    law, good = fit_usl(levels).law, fit_usl(planted(0.05, 0.002, 0.0, 0)).law
    assert law is not None
    assert good is not None
    assert law["misfit"] > 0.3
    assert good["misfit"] < 1e-6
