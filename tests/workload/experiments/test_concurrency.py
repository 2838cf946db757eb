"""Experiment 6 from rows to words and pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.drawing import drawing_of
from tests.stubs.run import call, measured, question, run_of
from workload.experiments.concurrency import CONCURRENCY, HIGH, LOW, MAX_IN_FLIGHT, headline, points, reduce, verdicts
from workload.promql.vllm_metrics import IN_SYSTEM_SECONDS
from workload.settings import load_settings
from workload.statistics.throughput import CLOSED, OPEN

if TYPE_CHECKING:
    from pathlib import Path

    from workload.record.results import Measured, Row, RunData

FILES = ("throughput_vs_concurrency.png", "latency_vs_concurrency.png", "memory_vs_concurrency.png")
LEVELS = (1, 2, 4)
QUESTIONS = 20


def window(arm: str, point: str, number: int) -> Measured:
    """Return a window of 200 s."""
    found = measured(arm)
    return replace(found, window=replace(found.window, point=point, start=1000.0 * number, end=1000.0 * number + 200))


def level(arm: str, point: str, number: int, workers: int, seconds: float, *, is_open: bool = False) -> list[Row]:
    """Return the questions of a level; each worker asks as soon as it is free, or one arrives per second."""
    start, rows = 1000.0 * number, []
    for index in range(QUESTIONS):
        at = start + (index if is_open else index // workers * seconds)
        row = question(1000 * number + index, arm, question_id=f"q{index}", duration_seconds=seconds, phase=point)
        rows.append(row | {"worker": str(index % workers), "started_at": at, "intended_at": at})
    return rows


def run() -> RunData:
    """Return both arms at three levels and one rate; twice the concurrency takes 1.5 times as long."""
    windows: list[Measured] = []
    questions: list[Row] = []
    for arm in (LOW.name, HIGH.name):
        for workers, seconds in zip(LEVELS, (2.0, 3.0, 4.5), strict=True):
            windows.append(window(arm, f"c{workers}", len(windows)))
            questions += level(arm, f"c{workers}", len(windows) - 1, workers, seconds)
        windows.append(window(arm, "r1", len(windows)))
        questions += level(arm, "r1", len(windows) - 1, 8, 2.5, is_open=True)
    calls = [call(row["id"], row["arm"], phase=row["phase"]) for row in questions]
    return run_of(windows, calls, questions)


def summarise(data: RunData) -> dict[str, Any]:
    """Return the summary as a run completes it, having been through JSON."""
    return dict(json.loads(json.dumps(reduce(data), allow_nan=False)))


def test_points_are_the_levels_and_then_the_rates() -> None:
    """`--concurrency 1,2 --rate 0.5`: the arrivals are drawn from the seed, one for each question."""
    flags = {"limit": 20, "max_hops": 3, "k": 10, "concurrency": ["1", "2"], "rate": ["0.5"]}
    found = points(load_settings(flags, {}).load)
    assert [point.name for point in found] == ["c1", "c2", "r0.5"]
    assert [len(point.arrivals) for point in found] == [0, 0, 20]
    assert found[2].concurrency == MAX_IN_FLIGHT


def test_the_summary_has_every_level_of_both_arms() -> None:
    """Throughput of successes, percentiles with their intervals, efficiency, the law or why there is none."""
    summary = summarise(run())
    assert [(row["arm"], row["concurrency"], row["rate"]) for row in summary["levels"]] == [
        (arm, *load) for arm in ("low", "high") for load in ((1, None), (2, None), (4, None), (None, 1.0))
    ]
    two = summary["levels"][1]
    assert two["throughput"]["per_second"] == pytest.approx(2 / 3)
    assert two["efficiency"]["efficiency"] == pytest.approx((2 / 3) / (2 * 0.5))
    assert two["latency_seconds"][0]["ci"] is not None
    assert [found["ci"] for found in two["latency_seconds"][1:]] == [None, None]
    assert summary["levels"][3]["throughput"]["arrived_per_second"] == pytest.approx(1.0)
    assert "needs 6" in summary["scaling"]["low"]["no_usl"]


def test_what_prometheus_did_not_see_is_unknown() -> None:
    """No sample of the queue is not an empty queue."""
    engine = summarise(run())["levels"][0]["engine"]
    assert set(engine.values()) == {None}
    assert summarise(run())["levels"][0]["call_seconds"] is None


def test_words_are_of_the_numbers() -> None:
    """Who scales how far, what has no interval, whether the client was punctual, and what was lost."""
    summary = summarise(run())
    reported = "\n".join(verdicts(summary))
    for words in (
        "low: the highest rate is 0.889 questions per second",
        "without a CI",
        "negligible",
        "its own cache salt",
        "0 failed, 0 dropped",
        f"Answers per second count {CLOSED}; {OPEN}.",
    ):
        assert words in reported
    assert all(len(row) == len(CONCURRENCY.columns) for row in headline(summary))
    assert headline(summary)[0][4] == "2 / 2* / -"
    assert headline(summary)[2][1:3] == ("0.889\n[0.889, 0.889]", "0.889")


@pytest.mark.usefixtures("laid_out")
def test_percentiles_that_few_answers_cannot_give_are_not_drawn(tmp_path: Path) -> None:
    """Levels of three answers have a median and nothing else, in the table, in JSON and in the picture."""
    data = run()
    few = replace(data, questions=[row for row in data.questions if row["id"] % 1000 < 4])
    summary = summarise(few)
    assert {found["value"] is None for row in summary["levels"] for found in row["latency_seconds"][1:]} == {True}
    assert all(row[4].endswith(" / - / -") for row in headline(summary))
    assert len(CONCURRENCY.draw(drawing_of(CONCURRENCY, few, summary, tmp_path))) == 3


def test_a_level_that_was_never_reached_says_why() -> None:
    """Twenty questions cannot keep 64 workers busy; the reason comes with what the whole run answered."""
    data = run()
    crowd = [{**row, "phase": "c64", "id": row["id"] + 10_000} for row in data.questions if row["phase"] == "c4"]
    windows = [
        replace(part, window=replace(part.window, point="c64")) for part in data.measured if part.window.point == "c4"
    ]
    summary = summarise(replace(data, measured=windows, questions=crowd))
    assert [row[1:4] for row in headline(summary)] == [
        ("its workers were never all busy at the same time", "0.889", "")
    ] * 2
    assert "ever reached its concurrency" in "\n".join(verdicts(summary))


def test_two_clocks_are_no_check_of_littles_law() -> None:
    """N = X R is true of any list of calls, right or wrong; the sentence must not sell it as a finding."""
    data = run()
    reported = [replace(part, counters={IN_SYSTEM_SECONDS: 10.0}) for part in data.measured]
    summary = summarise(replace(data, measured=reported))
    assert summary["levels"][0]["call_seconds"]["client_over_engine"] == pytest.approx(1.0)
    sentence = next(found for found in verdicts(summary) if "Little" in found)
    assert "+100.0%" in sentence
    assert "not a check" in sentence


def test_pictures_come_from_the_summary_and_leave_it_alone(tmp_path: Path) -> None:
    """`--no-figures` writes the same JSON, so drawing may add nothing to it."""
    data = run()
    summary = summarise(data)
    before = json.dumps(summary)
    paths = CONCURRENCY.draw(drawing_of(CONCURRENCY, data, summary, tmp_path))
    assert [path.name for path in paths] == list(FILES)
    assert all(path.stat().st_size > 20_000 for path in paths)
    assert json.dumps(summary) == before


@pytest.mark.usefixtures("laid_out")
def test_a_run_without_an_answer_is_reported_and_drawn(tmp_path: Path) -> None:
    """A dead engine fails every question; the run must end in words and empty pictures, not in a traceback."""
    data = run()
    dead = replace(data, questions=[row | {"outcome": "failed"} for row in data.questions], calls=())
    summary = summarise(dead)
    assert verdicts(summary)
    assert headline(summary)
    assert len(CONCURRENCY.draw(drawing_of(CONCURRENCY, dead, summary, tmp_path))) == 3
