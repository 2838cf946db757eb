"""Ramp, drain and failures all turn into scaling that is not there, or hide scaling that is."""

from __future__ import annotations

import numpy as np
import pytest

from workload.statistics.throughput import Level, efficiencies


def random_level(concurrency: int, requests: int, mean_seconds: float, seed: int) -> Level:
    """Return a level of lognormal cycles."""
    cycles = mean_seconds * np.random.default_rng(seed).lognormal(-0.02, 0.2, requests)
    return Level(concurrency, cycles, np.ones(requests))


def test_a_planted_efficiency_is_within_its_interval() -> None:
    """Efficiency is the answer to the concurrency question, so its interval must contain the truth."""
    found = [
        efficiencies([random_level(1, 40, 2.0, seed), random_level(4, 40, 2.5, seed + 1_000)])[1] for seed in range(100)
    ]
    assert np.mean([item["ci"] is not None and item["ci"][0] <= 0.8 <= item["ci"][1] for item in found]) >= 0.88
    assert np.mean([item["efficiency"] for item in found]) == pytest.approx(0.8, rel=0.02)


def test_efficiency_alone_is_one_and_few_requests_have_no_interval() -> None:
    """A level of 5 requests gets a point and no interval."""
    alone, few = efficiencies([random_level(1, 40, 2.0, 1), random_level(8, 5, 2.0, 2)])
    assert (alone["efficiency"], alone["ci"]) == (1.0, (1.0, 1.0))
    assert few["ci"] is None


def test_efficiency_needs_one_worker_alone() -> None:
    """Relative to any other level it would be another quantity under the same name."""
    with pytest.raises(ValueError, match="concurrency 1"):
        efficiencies([random_level(2, 20, 1.0, 0)])
    nothing = Level(1, np.ones(20), np.zeros(20))
    with pytest.raises(ValueError, match="successes"):
        efficiencies([nothing])
