"""Bounds of a paired change: an alarm without a change is as rare as promised, whatever the noise."""

from __future__ import annotations

import numpy as np
import pytest

from workload.statistics.regression import bounds, judged

NAMES = [f"q{number}" for number in range(30)]
SAME = dict.fromkeys(NAMES, 1.0)


def shifted(by: float, noise: float = 0.0, seed: int = 0) -> dict[str, float]:
    """Return times that changed by a share, with noise of a heavy tail."""
    draws = np.random.default_rng(seed).standard_t(2, len(NAMES))
    return {name: (1 + by) * float(np.exp(noise * draw)) for name, draw in zip(NAMES, draws, strict=True)}


@pytest.mark.parametrize(("by", "verdict"), [(0.0, "pass"), (0.05, "fail"), (-0.2, "pass")])
def test_a_regression_is_told_from_none(by: float, verdict: str) -> None:
    """A gain is not a regression, however large."""
    assert judged(bounds(SAME, shifted(by, 0.002), 0.0005), 0.03) == verdict


def test_noise_leaves_it_undecided() -> None:
    """A bound on either side of the tolerance shows nothing."""
    assert judged(bounds(SAME, shifted(0.03, 0.2), 0.0005), 0.03) == "undecided"


@pytest.mark.parametrize(("alpha", "needed"), [(0.001, 10), (0.0005, 11), (0.25, 2)])
def test_few_pairs_have_no_bound(alpha: float, needed: int) -> None:
    """The smallest of n ratios lies above their median with probability 2^-n."""
    few = {name: SAME[name] for name in NAMES[: needed - 1]}
    assert judged(bounds(few, few, alpha), 0.03) == "undecided"
    enough = {name: SAME[name] for name in NAMES[:needed]}
    assert bounds(enough, enough, alpha) == {"n": needed, "change": 0.0, "low": 0.0, "high": 0.0}
    assert bounds({}, SAME, alpha)["change"] is None


def test_alarms_are_as_rare_as_promised() -> None:
    """At the very edge of the tolerance, where an alarm is likeliest, with a heavy tail."""
    alpha, runs = 0.05, 2000
    draws = np.random.default_rng(1).standard_t(2, (runs, len(NAMES)))
    alarms = 0
    for row in 0.1 * draws:
        found = bounds(SAME, dict(zip(NAMES, np.exp(row).tolist(), strict=True)), alpha)
        alarms += judged(found, 0.0) == "fail"
    assert 0 < alarms / runs < alpha
