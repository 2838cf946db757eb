"""From the journal to the analysis: what belongs to which question, arm and window, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.run import call, measured, question, run_of
from workload.errors import UsageError
from workload.promql.vllm_metrics import HITS, QUERIES
from workload.record.journal import Journal
from workload.record.results import WARM_UP, Measured, group, read_run, total

if TYPE_CHECKING:
    from pathlib import Path

    from workload.record.results import Row

PLACE = {"attempt": 1, "worker": "0", "intended_at": 0.0, "started_at": 0.0, "type": "bridge", "duration_seconds": 1.0}
CALL = {"node": "decide", "hop": 1, "started_at": 0.0, "duration_seconds": 1.0, "outcome": "ok"}


def journal_of(path: Path) -> Path:
    """Write a journal with a warm-up, a closed window, an interrupted one, and the other arm."""
    places = [
        ("prefix-on", 0, WARM_UP, 0),
        ("prefix-on", 0, "c1", 0),
        ("prefix-on", 0, "c1", 1),
        ("prefix-off", 1, "c1", 0),
    ]
    with Journal(path, {}) as journal:
        for arm, block, phase, segment in places:
            row_id = journal.new_id("question")
            where = {"arm": arm, "block": block, "phase": phase, "segment": segment}
            journal.insert("question", {"id": row_id, "question_id": f"q{row_id}", "outcome": "ok", **where, **PLACE})
            journal.insert("llm_call", {"id": journal.new_id("llm_call"), "question": row_id, **CALL})
            journal.insert("node_visit", {"question": row_id, **CALL})
            journal.insert(
                "stage", {"question": row_id, "stage": "embed", "hop": 1, "started_at": 0.0, "duration_seconds": 1.0}
            )
    return path


def test_rows_get_their_question_s_place(tmp_path: Path) -> None:
    """A warm-up call in the sum, or one of an interrupted window, makes counters and responses differ for ever."""
    data = read_run(journal_of(tmp_path / "journal.sqlite"), [measured(), measured("prefix-off", block=1)])
    assert [row["question_id"] for row in data.questions] == ["q2", "q3", "q4"]
    for rows in (data.calls, data.visits, data.stages):
        assert [(row["question_id"], row["arm"], row["is_windowed"]) for row in rows] == [
            ("q2", "prefix-on", True),
            ("q3", "prefix-on", False),
            ("q4", "prefix-off", True),
        ]


def test_a_run_without_a_journal(tmp_path: Path) -> None:
    """The name of a run that does not exist is a usage error, not an empty report."""
    with pytest.raises(UsageError):
        read_run(tmp_path / "journal.sqlite", [])


def test_counters_are_summed_over_an_arm_s_windows() -> None:
    """One window without the metric makes the sum unknown; leaving it out would understate it by half."""
    windows = [measured(hits=3, queries=5), measured(block=1, hits=4, queries=None), measured("prefix-off", hits=9)]
    data = run_of(windows)
    assert data.counter("prefix-on", HITS) == 7
    assert data.counter("prefix-on", QUERIES) is None
    assert data.counter("prefix-on", "vllm:never_heard_of") is None
    assert data.counter("no-such-arm", HITS) is None


def test_a_counter_that_stood_still_is_zero() -> None:
    """Nothing counted and not counting are different findings."""
    assert run_of([measured(hits=0)]).counter("prefix-on", HITS) == 0


def test_calls_of_an_arm() -> None:
    """Failed calls have no usage to add up."""
    calls = [call(1), call(2, "prefix-off"), call(3, outcome="failed")]
    assert run_of([], calls).calls_of("prefix-on") == [calls[0]]


def test_a_question_without_the_value_is_left_out() -> None:
    """A mean over a made-up zero would pull the median of all questions."""
    questions = [question(1, question_id="a"), question(2, question_id="b")]
    data = run_of([], [call(1, cached_tokens=None), call(2)], questions)
    assert data.by_question("prefix-on", lambda _, calls: calls[0]["cached_tokens"]) == {"b": 64}


def test_totals_and_groups() -> None:
    """A sum with an unknown part is unknown; a sum of nothing is nothing."""
    rows: list[Row] = [{"key": "a", "tokens": 1}, {"key": "b", "tokens": 2}, {"key": "a", "tokens": None}]
    assert (total(rows[:2], "tokens"), total(rows, "tokens"), total([], "tokens")) == (3, None, 0)
    assert group(rows, "key") == {"a": [rows[0], rows[2]], "b": [rows[1]]}


def test_a_window_survives_the_manifest() -> None:
    """A run that goes on reads its finished windows back."""
    window = measured(hits=1, queries=2)
    assert Measured.from_manifest(window.as_dict()) == window
