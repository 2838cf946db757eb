"""Ramp, drain and failures all turn into scaling that is not there, or hide scaling that is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workload.analysis.scaling import Level, Request, check_littles_law, efficiencies, steady_level, steady_window


def back_to_back(start: float, durations: list[float]) -> list[Request]:
    """Return a worker's requests without a pause."""
    edges = np.cumsum([start, *durations]).tolist()
    return [Request(*pair) for pair in pairwise(edges)]


def random_level(concurrency: int, requests: int, mean_seconds: float, seed: int) -> Level:
    """Return a level of lognormal cycles."""
    cycles = mean_seconds * np.random.default_rng(seed).lognormal(-0.02, 0.2, requests)
    return Level(concurrency, cycles, np.ones(requests, dtype=np.bool_))


def test_the_window_is_when_all_workers_are_busy() -> None:
    """It starts with the last worker's first request and ends when the first worker has nothing left."""
    workers = [back_to_back(0, [2, 2, 2]), back_to_back(1, [3, 3, 3])]
    assert steady_window(workers) == (1, 6)


@pytest.mark.parametrize("workers", [[], [[]], [back_to_back(0, [1]), back_to_back(5, [1])]])
def test_no_window_where_workers_never_overlap(workers: list[list[Request]]) -> None:
    """A level that never had its concurrency has no throughput at it."""
    assert steady_window(workers) is None
    assert steady_level(workers) is None


def test_ramp_and_drain_would_halve_the_throughput() -> None:
    """The trap: 4 workers at 1 request a second each, started late and ending early, are not 2 a second."""
    workers = [back_to_back(5.0 * worker, [1.0] * 20) for worker in range(4)]
    level = steady_level(workers)
    assert level is not None
    assert level.throughput == pytest.approx(4.0)
    whole = 80 / (workers[-1][-1].end - workers[0][0].start)
    assert whole < 2.4


def test_requests_from_before_the_window_are_left_out() -> None:
    """While one worker is still alone it is twice as fast; those requests are not the throughput at 2."""
    workers = [back_to_back(0, [0.5] * 20 + [1.0] * 10), back_to_back(10, [1.0] * 10)]
    level = steady_level(workers)
    assert level is not None
    assert len(level.cycle_seconds) == 20
    assert level.throughput == pytest.approx(2.0)


def test_throughput_counts_a_request_over_the_edge_once_and_whole() -> None:
    """Counting completions in a short window misses what is in flight at its end: here one in four."""
    rng = np.random.default_rng(0)
    rates, counted = [], []
    for _ in range(300):
        workers = [back_to_back(0, rng.lognormal(-0.02, 0.2, 5).tolist()) for _ in range(4)]
        level, window = steady_level(workers), steady_window(workers)
        assert level is not None
        assert window is not None
        rates.append(level.throughput)
        counted.append(sum(r.end < window[1] for worker in workers for r in worker) / (window[1] - window[0]))
    assert np.mean(rates) == pytest.approx(4.0, rel=0.02)
    assert np.mean(counted) < 3.6


def test_failures_are_time_and_no_throughput() -> None:
    """The trap: fast failures counted as requests would look like a speed-up."""
    good = [Request(2.0 * i, 2.0 * i + 2) for i in range(10)]
    failing = [Request(2.0 * i, 2.0 * i + 2, succeeded=i % 2 == 0) for i in range(10)]
    level = steady_level([good, failing])
    assert level is not None
    assert level.throughput == pytest.approx(0.75)


def test_a_pause_of_the_client_is_part_of_the_cycle() -> None:
    """A worker that waits between requests lowers the throughput that was really there."""
    level = steady_level([[Request(0, 1), Request(2, 3), Request(4, 5)]])
    assert level is not None
    assert level.throughput == pytest.approx(3 / 5)


def test_a_planted_efficiency_is_within_its_interval() -> None:
    """Efficiency is the answer to the concurrency question, so its interval must hold what is true."""
    found = [
        efficiencies([random_level(1, 40, 2.0, seed), random_level(4, 40, 2.5, seed + 1_000)], seed)[1]
        for seed in range(100)
    ]
    assert np.mean([item.ci is not None and item.ci[0] <= 0.8 <= item.ci[1] for item in found]) >= 0.88
    assert np.mean([item.efficiency for item in found]) == pytest.approx(0.8, rel=0.02)


def test_efficiency_alone_is_one_and_few_requests_have_no_interval() -> None:
    """A level of 9 requests gets a point and no interval."""
    alone, few = efficiencies([random_level(1, 40, 2.0, 1), random_level(8, 9, 2.0, 2)])
    assert (alone.efficiency, alone.ci) == (1.0, (1.0, 1.0))
    assert few.ci is None


def test_efficiency_needs_one_worker_alone() -> None:
    """Relative to any other level it would be another quantity under the same name."""
    with pytest.raises(ValueError, match="concurrency 1"):
        efficiencies([random_level(2, 20, 1.0, 0)])
    nothing = Level(1, np.ones(20), np.zeros(20, dtype=np.bool_))
    with pytest.raises(ValueError, match="successes"):
        efficiencies([nothing])


def test_littles_law_shows_what_does_not_add_up() -> None:
    """Failures left out of the throughput break N = X R, and the relative error says by how much."""
    assert check_littles_law(8, 4.0, 2.0).relative_error == 0
    assert check_littles_law(8, 3.0, 2.0).relative_error == pytest.approx(-0.25)
