"""A level of load: the ramp, the drain, failures and a late client must not reach its numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.run import call, question
from workload.analysis.levels import (
    call_seconds,
    extent,
    full_part,
    latencies,
    load_of,
    open_part,
    scaling,
    send_lag,
    throughput,
)
from workload.record.window import Window
from workload.services.prometheus import Series
from workload.statistics.throughput import CLOSED, OPEN, Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.record.results import Row


def asked(number: int, start: float, seconds: float, worker: int = 0, **parts: Any) -> Row:
    """Return a question that was sent when it was to be sent."""
    row = question(number) | {"worker": str(worker), "started_at": start, "intended_at": start}
    return row | {"duration_seconds": seconds} | parts


def closed_loop(workers: int, questions: int, seconds: float, **parts: Any) -> list[Row]:
    """Return what workers in step do, each sending its next question as soon as the one before has ended."""
    return [
        asked(number, number // workers * seconds, seconds, number % workers, **parts) for number in range(questions)
    ]


def measured_rate(questions: Sequence[Row], concurrency: int) -> dict[str, Any]:
    """Return the sentence about the throughput of a closed loop."""
    return throughput(full_part(questions, concurrency)[0], questions)


@given(st.integers(1, 8), st.integers(2, 5), st.floats(0.1, 50))
def test_a_full_loop_has_the_throughput_of_its_cycle(workers: int, rounds: int, seconds: float) -> None:
    """N workers that each take R seconds answer N / R questions a second."""
    rows = closed_loop(workers, workers * rounds, seconds)
    found = measured_rate(rows, workers)
    assert found["per_second"] == pytest.approx(workers / seconds)
    assert found["over_whole_run"] == pytest.approx(workers / seconds)
    assert (found["estimator"], found["why_not"]) == (CLOSED, None)
    assert len(full_part(rows, workers)[1]) == workers * rounds


def test_the_drain_does_not_count_and_the_whole_run_is_stated_too() -> None:
    """One straggler of 100 s at the end: over the whole run 0.06 questions a second, while both were busy 0.67."""
    rows = [*closed_loop(2, 6, 3.0), asked(6, 9.0, 100.0)]
    found = measured_rate(rows, 2)
    assert found["per_second"] == pytest.approx(2 / 3, rel=0.01)
    assert found["over_whole_run"] == pytest.approx(7 / 109)
    assert found["seconds"] == pytest.approx(9.0)
    assert len(full_part(rows, 2)[1]) == 6


def test_the_first_wave_counts() -> None:
    """The trap: all but one of the first questions start before all workers are busy, by a millisecond."""
    rows = [asked(number, 0.001 * number, 10.0, number) for number in range(8)]
    rows += [asked(8 + number, 10 + 0.001 * number, 5.0, number) for number in range(8)]
    found = measured_rate(rows, 8)
    assert found["n"] == 16
    assert found["per_second"] == pytest.approx(16 / 15, rel=0.01)
    assert len(full_part(rows, 8)[1]) == 16


def test_failures_are_no_throughput() -> None:
    """An overloaded server refuses quickly; counted as work that would be its best level."""
    rows = closed_loop(2, 20, 1.0)
    failing = [row | ({"outcome": "failed"} if row["id"] % 4 else {}) for row in rows]
    found = measured_rate(failing, 2)
    assert found["per_second"] == found["over_whole_run"] == pytest.approx(2.0 / 4)
    assert latencies(failing)[0]["n"] == 5


def test_a_level_that_was_never_reached_has_no_throughput() -> None:
    """Three questions keep three workers busy; the label "8 at a time" would be a lie. What they did is reported."""
    rows = closed_loop(3, 3, 1.0)
    assert full_part(rows, 8) == (None, [])
    found = measured_rate(rows, 8)
    assert (found["per_second"], found["ci"], found["n"]) == (None, None, 0)
    assert found["over_whole_run"] == pytest.approx(3.0)
    assert "never all busy" in found["why_not"]
    assert measured_rate([], 8)["over_whole_run"] is None


def test_two_starts_of_the_engine_are_full_each_for_itself() -> None:
    """Between them lies the start of an engine, which belongs to no worker's cycle."""
    first = closed_loop(2, 10, 1.0)
    second = [asked(row["id"], row["started_at"] + 500, 1.0, int(row["worker"]), block=1) for row in first]
    found = measured_rate([*first, *second], 2)
    assert found["per_second"] == found["over_whole_run"] == pytest.approx(2.0)
    assert len(full_part([*first, *second], 2)[1]) == 20


def test_few_questions_have_no_interval() -> None:
    """An interval from five questions covers far less than it says."""
    assert measured_rate(closed_loop(1, 5, 1.0), 1)["ci"] is None
    assert measured_rate(closed_loop(1, 20, 1.0), 1)["ci"] is not None


@given(st.floats(0.1, 20), st.integers(120, 300), st.floats(0.01, 0.99))
def test_an_open_loop_answers_what_it_is_asked(rate: float, arrivals: int, occupied: float) -> None:
    """A system that keeps up answers as often as it is asked; its ramp and its drain are known, and must not count."""
    seconds = occupied * arrivals / rate / 50
    found = open_part([asked(number, number / rate, seconds, number) for number in range(arrivals)])
    assert found["arrived_per_second"] == pytest.approx(rate)
    assert found["per_second"] == pytest.approx(rate, rel=0.01)
    assert found["estimator"] == OPEN


def test_an_open_loop_that_is_asked_too_much_answers_what_it_can() -> None:
    """Two a second come and one is served: a question waits ever longer, and waiting is no work."""
    rows = [asked(number, number / 2, 1 + number / 2, number) for number in range(200)]
    assert open_part(rows)["per_second"] == pytest.approx(1.0, rel=0.01)
    half = [row | ({"outcome": "failed"} if row["id"] % 2 else {}) for row in rows]
    assert open_part(half)["per_second"] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_an_open_loop_without_an_answer_says_so(outcome: str) -> None:
    """Nothing answered is no rate of anything."""
    found = open_part([asked(number, float(number), 1.0, number, outcome=outcome) for number in range(9)])
    assert (found["per_second"], found["why_not"]) == (None, "no question was answered")
    assert open_part([])["over_whole_run"] is None


def test_a_short_open_loop_has_no_throughput() -> None:
    """Four arrivals within a question's time are all answered after the last of them; that is no rate of zero."""
    found = open_part([asked(number, float(number), 15.0, number) for number in range(4)])
    assert found["per_second"] is None
    assert "ended too soon" in found["why_not"]
    assert found["arrived_per_second"] == pytest.approx(1.0)


def test_send_lag_of_an_open_loop_is_from_when_it_was_due() -> None:
    """The journal keeps both instants; their difference is the client's own doing."""
    rows = [asked(number, number + 0.2, 1.0, number, intended_at=float(number)) for number in range(3)]
    found = send_lag(rows, "open")
    assert found is not None
    assert found["median"] == pytest.approx(0.2)
    assert found["share"] == pytest.approx(0.2)


def test_send_lag_of_a_closed_loop_is_from_when_its_worker_was_free() -> None:
    """Between two questions of a worker lies only the client: writing down, scoring, choosing the next."""
    rows = [asked(0, 0.0, 1.0), asked(1, 1.1, 1.0), asked(2, 2.2, 1.0), asked(3, 0.0, 1.0, worker=1)]
    found = send_lag(rows, "closed")
    assert found is not None
    assert (found["n"], found["median"]) == (2, pytest.approx(0.1))
    assert send_lag([asked(0, 0.0, 1.0)], "closed") is None


def line(times: Sequence[float], values: Sequence[float]) -> Series:
    """Return a gauge."""
    return Series({}, np.array(times, dtype=np.float64), np.array(values, dtype=np.float64))


def test_a_mean_is_over_time_and_not_over_samples() -> None:
    """Scrapes come late when the engine is busy, so a mean over samples counts its idle time too often."""
    peak, mean = extent([line([0.0, 0.1, 0.2, 10.0], [0.0, 0.0, 4.0, 4.0])])
    assert (peak, mean) == (4.0, pytest.approx(3.94, rel=0.01))
    engines = [line([0.0, 1.0, 2.0], [5.0, 0.0, 0.0]), line([0.0, 1.0, 2.0], [0.0, 5.0, 1.0])]
    assert extent(engines)[0] == 5.0  # never ten at one instant
    assert extent([]) == (None, None)
    assert extent([line([], [])]) == (None, None)


def test_calls_are_timed_by_two_clocks() -> None:
    """The engine's against the client's: 4 calls of 2 s in 10 s are 0.8 in the system, unless one clock saw others."""
    calls = [call(number, duration_seconds=2.0) for number in range(4)]
    windows = [Window(arm="low", block=0, point="c1", segment=0, start=0.0, end=10.0)]
    assert call_seconds([8.0], calls, windows) == pytest.approx(
        {"engine": 0.8, "client": 0.8, "client_over_engine": 0.0}
    )
    lost = call_seconds([16.0], calls, windows)
    assert lost is not None
    assert lost["client_over_engine"] == pytest.approx(-0.5)
    assert call_seconds([None], calls, windows) is None
    assert call_seconds([0.0], calls, windows) is None


def level(concurrency: int, seconds: float) -> Level:
    """Return a level of 40 questions."""
    chance = np.random.default_rng(concurrency)
    return Level(concurrency, seconds * chance.uniform(0.9, 1.1, 40), np.ones(40))


def test_efficiency_is_against_one_at_a_time() -> None:
    """Eight at a time that each take four times as long bring twice the throughput at a quarter of the efficiency."""
    found = scaling([level(1, 1.0), level(8, 4.0)])
    assert found["efficiency"]["8"]["efficiency"] == pytest.approx(0.25, rel=0.05)
    assert found["efficiency"]["8"]["ci"][0] < 0.25 < found["efficiency"]["8"]["ci"][1]
    assert found["usl"] is None
    assert "needs 6" in found["no_usl"]


def test_the_law_is_fitted_from_six_levels_and_goes_into_json() -> None:
    """Three parameters through four levels fit anything; a law without a peak has an infinite one, JSON has none."""
    levels = [level(n, 1 + 0.05 * (n - 1)) for n in (1, 2, 4, 8, 16, 32)]
    found = scaling(levels)
    assert found["usl"]["contention"] == pytest.approx(0.05, abs=0.03)
    assert json.dumps(found, allow_nan=False)


def test_without_one_at_a_time_there_is_no_efficiency() -> None:
    """What is not known comes with a reason."""
    found = scaling([level(2, 1.0), level(4, 1.0)])
    assert found["efficiency"] == {}
    assert "concurrency 1" in found["no_efficiency"]


@pytest.mark.parametrize(("name", "expected"), [("c8", ("closed", 8)), ("r0.5", ("open", 0.5)), ("r2", ("open", 2.0))])
def test_a_point_is_known_by_its_name(name: str, expected: tuple[str, float]) -> None:
    """The name is all that the journal keeps of a level."""
    assert load_of(name) == expected
