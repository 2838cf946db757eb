"""The published figure of a level: planted first waves, drains and failures of known size must not move it by 1 %."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.statistics.throughput import Request, full_level, full_window


def back_to_back(start: float, durations: list[float]) -> list[Request]:
    """Return a worker's requests without a pause."""
    edges = np.cumsum([start, *durations]).tolist()
    return [Request(*pair) for pair in pairwise(edges)]


def rate(workers: list[list[Request]]) -> float:
    """Return the throughput of a level that was reached."""
    level = full_level(workers)
    assert level is not None
    return level.throughput


def done_by(workers: list[list[Request]], at: float) -> float:
    """Return the answers that are done by an instant, a part of one for each that is under way: the planted truth."""
    return sum(
        min(1.0, max(0.0, (at - request.start) / (request.end - request.start)))
        for requests in workers
        for request in requests
        if request.succeeded
    )


def test_the_window_is_when_all_workers_are_busy() -> None:
    """It starts with the last worker's first request and ends when the first worker has nothing left."""
    workers = [back_to_back(0, [2, 2, 2]), back_to_back(1, [3, 3, 3])]
    assert full_window(workers) == (1, 6)


@pytest.mark.parametrize("workers", [[], [[]], [back_to_back(0, [1]), back_to_back(5, [1])]])
def test_no_window_where_workers_never_overlap(workers: list[list[Request]]) -> None:
    """A level that never had its concurrency has no throughput at it."""
    assert full_window(workers) is None
    assert full_level(workers) is None


def test_a_worker_that_had_paused_was_not_busy() -> None:
    """The first worker has asked before the second came, but the two were at it together only from 5 to 6."""
    first, second = [Request(0, 1), Request(5, 7)], [Request(2, 6)]
    assert full_window([first, second]) == (5, 6)


def test_two_clocks_that_disagree_by_a_hair_are_one_worker() -> None:
    """An end is a start plus a duration and may lie behind the next start; alone, that worker is still one."""
    alone = [Request(0, 1.000001), Request(1, 2)]
    assert full_window([alone, [Request(1.5, 3)]]) == (1.5, 2)
    assert full_window([alone, [Request(2.5, 3)]]) is None


@given(
    workers=st.integers(1, 64),
    rounds=st.integers(2, 6),
    seconds=st.floats(0.1, 50),
    ramp=st.floats(0, 0.99),
    straggler=st.floats(1, 30),
)
def test_row_26_first_wave_and_drain_of_known_size(
    workers: int, rounds: int, seconds: float, ramp: float, straggler: float
) -> None:
    """N workers that take R seconds answer N / R a second, however long they take to come and however one straggles."""
    loop = [back_to_back(seconds * ramp * place / workers, [seconds] * rounds) for place in range(workers)]
    if workers > 1:
        last = loop[-1][-1].end
        loop[-1].append(Request(last, last + straggler * seconds))
    assert rate(loop) == pytest.approx(workers / seconds, rel=0.01)


def test_what_was_published_before_was_too_high() -> None:
    """The trap: to leave out the first wave, and to count the drain, in which fewer share the engine."""
    loop = [back_to_back(0.001 * place, [8.0, 8.0, 8.0 if place == 0 else 3.0]) for place in range(64)]
    ended = min(requests[-1].end for requests in loop)
    dropped = [request for requests in loop for request in requests if 0.063 <= request.start < ended]
    old = 64 * len(dropped) / sum(request.end - request.start for request in dropped)
    truth = (done_by(loop, ended) - done_by(loop, 0.063)) / (ended - 0.063)
    assert rate(loop) == pytest.approx(truth)
    assert old > 1.1 * truth


@given(st.integers(1, 16), st.integers(1, 12), st.integers(0, 2**32), st.floats(0.05, 1), st.floats(0, 0.5))
def test_uneven_durations_and_failures_count_what_was_done_in_there(
    workers: int, rounds: int, seed: int, spread: float, failing: float
) -> None:
    """By another way: the answers done by the end of the window less those done by its start."""
    chance = np.random.default_rng(seed)
    loop = [
        [
            Request(request.start, request.end, bool(chance.random() >= failing))
            for request in back_to_back(chance.uniform(0, 1), chance.lognormal(0, spread, rounds).tolist())
        ]
        for _ in range(workers)
    ]
    window = full_window(loop)
    if window is None:
        assert full_level(loop) is None
        return
    first, last = window
    assert rate(loop) == pytest.approx((done_by(loop, last) - done_by(loop, first)) / (last - first), rel=1e-6)


@pytest.mark.parametrize("workers", [1, 4, 32])
def test_uneven_durations_have_the_rate_of_their_mean(workers: int) -> None:
    """A share of a request's own time is no longer drawn to long ones: over many the rate is N over the mean."""
    chance = np.random.default_rng(workers)
    loop = [back_to_back(0, chance.lognormal(-0.02, 0.2, 12_000 // workers).tolist()) for _ in range(workers)]
    assert rate(loop) == pytest.approx(workers, rel=0.01)


def test_one_worker_counts_whole_and_over_its_whole_time() -> None:
    """One at a time there is no ramp and no drain: successes over wall time."""
    assert rate([back_to_back(3, [1, 2, 3, 4])]) == pytest.approx(4 / 10)


def test_requests_from_before_the_window_are_left_out() -> None:
    """While one worker is still alone it is twice as fast; those requests are not the throughput at 2."""
    workers = [back_to_back(0, [0.5] * 20 + [1.0] * 10), back_to_back(10, [1.0] * 10)]
    level = full_level(workers)
    assert level is not None
    assert len(level.cycle_seconds) == 20
    assert level.throughput == pytest.approx(2.0)


def test_failures_are_time_and_no_throughput() -> None:
    """The trap: fast failures counted as requests would look like a speed-up."""
    good = [Request(2.0 * i, 2.0 * i + 2) for i in range(10)]
    failing = [Request(2.0 * i, 2.0 * i + 2, succeeded=i % 2 == 0) for i in range(10)]
    assert rate([good, failing]) == pytest.approx(0.75)


def test_a_pause_of_the_client_is_part_of_the_time() -> None:
    """A worker that waits between requests lowers the throughput that was really there."""
    assert rate([[Request(0, 1), Request(2, 3), Request(4, 5)]]) == pytest.approx(3 / 5)


def test_an_answer_in_no_time_is_an_answer() -> None:
    """A clock that stood still for one request must not divide by zero."""
    assert rate([[Request(0, 1), Request(1, 1), Request(1, 2)]]) == pytest.approx(3 / 2)


def test_resampled_rates_lie_around_the_rate() -> None:
    """Requests at the edges are drawn with the part of their time that counts, or the interval would be elsewhere."""
    chance = np.random.default_rng(0)
    level = full_level([back_to_back(0.3 * place, chance.lognormal(0, 0.2, 30).tolist()) for place in range(8)])
    assert level is not None
    drawn = level.resampled_throughput(999, chance)
    assert np.mean(drawn) == pytest.approx(level.throughput, rel=0.02)
    assert level.seconds == pytest.approx(level.cycle_seconds.sum() / 8)


@pytest.mark.parametrize("requests", [6, 8, 20])
def test_the_interval_of_few_requests_holds_the_truth(requests: int) -> None:
    """A bootstrap of 6 requests contained it in 86 %; the bound allows four standard errors of this simulation."""
    chance = np.random.default_rng(requests)
    held = []
    for _ in range(400):
        level = full_level([back_to_back(0, chance.lognormal(-0.08, 0.4, requests).tolist())])
        assert level is not None
        assert level.interval is not None
        held.append(level.interval[0] <= 1.0 <= level.interval[1])
    assert np.mean(held) > 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5


def test_five_requests_have_no_interval_and_no_answer_has_none_either() -> None:
    """Without an answer the rate is 0, and its uncertainty is unknown."""
    five = full_level([back_to_back(0, [1, 2, 1, 2, 1])])
    failed = full_level([[Request(place, place + 1, succeeded=False) for place in range(20)]])
    assert five is not None
    assert failed is not None
    assert five.interval is None
    assert (failed.throughput, failed.interval) == (0, None)
