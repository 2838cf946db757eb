"""Spans, counters and the server are compared: agreement that cannot be missed would prove nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.stubs.load import QUESTION_SECONDS, START, Rows, run_of
from workload.analysis.spans import measured_loads
from workload.analysis.time_series import TimeSeries
from workload.analysis.witnesses import (
    against_counter,
    against_gauge,
    against_server,
    share_above_zero,
    stages_during_generation,
)

if TYPE_CHECKING:
    from pathlib import Path

    from workload.analysis.spans import MeasuredLoad

GENERATING, RETRIEVING = 5.0, 0.08
BUSY = {"generation_only": GENERATING, "retrieval_only": RETRIEVING, "both": 0.0, "neither": 0.0}


@pytest.fixture
def load(tmp_path: Path) -> MeasuredLoad:
    """Return the load of one question, whose calls and stages never overlap."""
    rows = Rows()
    rows.ask()
    (found,) = measured_loads(run_of(rows, tmp_path))
    return found


def test_a_counter_agrees_within_one_percent(load: MeasuredLoad) -> None:
    """The bound is 1 % of each activity, so 0.9 % of the generation passes and 1.1 % does not."""
    assert against_counter(load, BUSY)["within_1_percent"] is True
    assert against_counter(load, {**BUSY, "generation_only": 1.009 * GENERATING})["within_1_percent"] is True
    assert against_counter(load, {**BUSY, "generation_only": 1.011 * GENERATING})["within_1_percent"] is False


def test_a_missing_counter_neither_agrees_nor_disagrees(load: MeasuredLoad) -> None:
    """A workload that was not scraped has not contradicted its spans."""
    found = against_counter(load, {})
    assert (found["counter"], found["within_1_percent"]) == (None, None)
    assert found["spans"] == pytest.approx(BUSY, abs=1e-9)


def test_the_server_is_compared_in_points(load: MeasuredLoad) -> None:
    """One question at a time: 5 s of calls in 5.08 s are 0.984 requests in flight, by both."""
    found = against_server(load, BUSY, GENERATING)
    assert found["server_requests_in_flight"] == pytest.approx(GENERATING / QUESTION_SECONDS)
    assert found["spans_to_server"] == {"points": pytest.approx(0.0, abs=1e-9), "within_3_points": True}
    assert found["counter_to_server"]["within_3_points"] is True
    assert against_server(load, BUSY, 0.9 * GENERATING)["spans_to_server"]["within_3_points"] is False
    assert against_server(load, {}, None)["spans_to_server"] == {"points": None, "within_3_points": None}


def test_with_several_workers_a_busy_share_is_no_number_of_requests(load: MeasuredLoad) -> None:
    """Two workers keep up to two requests in flight; a share of time is at most 1."""
    both = replace(load, questions=[*load.questions, {**load.questions[0], "worker": "1"}])
    assert against_server(both, BUSY, GENERATING)["counter_to_server"] == {"points": None, "within_3_points": None}


def test_a_gauge_is_compared_outside_prefill(load: MeasuredLoad) -> None:
    """In a prefill the gauge still shows the state before; there it must not be called wrong."""
    times = START + np.arange(0.0, QUESTION_SECONDS, 0.1)
    calls = [
        (row["started_at"] + row["ttft_seconds"], row["started_at"] + row["duration_seconds"]) for row in load.calls
    ]
    running = np.array([float(any(start <= at < end for start, end in calls)) for at in times])
    found = against_gauge(load, TimeSeries(times, running))
    assert found["to_spans"] == {"points": pytest.approx(0.0), "within_3_points": True}
    assert found["share"] < found["share_outside_prefill"]


def test_a_value_counts_until_the_next_scrape() -> None:
    """A gauge that is scraped twice in 10 s, first 1 and then 0, was above zero until the second scrape."""
    assert share_above_zero(TimeSeries(np.array([0.0, 4.0]), np.array([1.0, 0.0])), (0.0, 10.0)) == 0.4
    assert share_above_zero(TimeSeries(np.array([0.0]), np.array([1.0])), (0.0, 10.0)) is None


def test_stages_during_generation_are_counted(load: MeasuredLoad) -> None:
    """A stage that runs while the engine generates for another question slows neither question's own path."""
    assert stages_during_generation(load)["embed"]["beside_generation_seconds"] == 0.0
    embed = next(row for row in load.stages if row["stage"] == "embed")
    other = {**load.calls[0], "started_at": embed["started_at"] + 0.01, "duration_seconds": 0.02}
    found = stages_during_generation(replace(load, calls=[*load.calls, other]))["embed"]
    assert found["beside_generation_seconds"] == pytest.approx(0.02)
    assert (found["count"], found["seconds"]) == (1, pytest.approx(0.05))
