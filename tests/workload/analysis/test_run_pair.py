"""Two runs beside each other: paired where both asked the same question, and never paired where they did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.recorded import SETTINGS, record_run
from workload.analysis.run_pair import compare_runs
from workload.errors import UsageError
from workload.record.runs import open_recorded
from workload.report.run_pair import sentences, table

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = {f"q{number}": 1.0 + number for number in range(8)}


def test_each_question_is_compared_with_itself(tmp_path: Path) -> None:
    """The spread between questions is far larger than a change of a tenth."""
    record_run(tmp_path, "a", SECONDS)
    record_run(tmp_path, "b", {name: 1.1 * value for name, value in SECONDS.items()}, cached_tokens=80)
    pair = compare_runs(open_recorded(tmp_path, "a"), open_recorded(tmp_path, "b"))
    (arms,) = pair["arms"]
    assert arms["is_paired"]
    assert arms["compared"]["end_to_end_seconds"]["change"] == pytest.approx(0.1)
    assert arms["compared"]["uncached_prefill_tokens"]["change"] == pytest.approx(20 / 36 - 1)
    assert arms["diverged"] == 0
    assert pair["differs"] == {}
    assert sentences(pair) == ["Both runs are of the same system and corpus, and took the same paths."]
    columns, rows = table(pair)
    assert {len(row) for row in rows} == {len(columns)}
    assert rows[2][-2].startswith("+10.0% [")


def test_runs_without_a_common_question_stand_side_by_side(tmp_path: Path) -> None:
    """A change between different questions would be the questions' change."""
    record_run(tmp_path, "a", SECONDS)
    record_run(tmp_path, "b", {f"other-{name}": value for name, value in SECONDS.items()})
    pair = compare_runs(open_recorded(tmp_path, "a"), open_recorded(tmp_path, "b"))
    (arms,) = pair["arms"]
    found = arms["compared"]["end_to_end_seconds"]
    assert (arms["is_paired"], found["change"], found["n"]) == (False, None, 0)
    assert found["a"] == found["b"] == 4.5
    assert "no question is in both runs" in sentences(pair)[0]
    assert {row[-2] for row in table(pair)[1]} == {"not paired"}


def test_equal_names_in_another_corpus_are_not_the_same_questions(tmp_path: Path) -> None:
    """Every generated corpus has a first question."""
    record_run(tmp_path, "a", SECONDS)
    record_run(tmp_path, "b", SECONDS, corpus={"source": "file"})
    pair = compare_runs(open_recorded(tmp_path, "a"), open_recorded(tmp_path, "b"))
    assert pair["differs"].keys() == {"corpus"}
    assert not pair["arms"][0]["is_paired"]


def test_what_differs_between_the_systems_is_said(tmp_path: Path) -> None:
    """A gain that came with another number of documents is no gain of the new engine."""
    record_run(tmp_path, "a", SECONDS)
    record_run(tmp_path, "b", SECONDS, settings=SETTINGS.changed(k=5, limit=9))
    pair = compare_runs(open_recorded(tmp_path, "a"), open_recorded(tmp_path, "b"))
    assert pair["differs"] == {"k": (10, 5)}
    assert sentences(pair) == ["k differs: 10 and 5."]


def test_arms_are_compared_by_name(tmp_path: Path) -> None:
    """Two arms of other names are compared only if someone says which."""
    record_run(tmp_path, "a", SECONDS, arms=("off", "on"))
    record_run(tmp_path, "b", SECONDS, arms=("on", "more"))
    first, second = open_recorded(tmp_path, "a"), open_recorded(tmp_path, "b")
    assert [arms["arms"] for arms in compare_runs(first, second)["arms"]] == [("on", "on")]
    assert [arms["arms"] for arms in compare_runs(first, second, ("off", "more"))["arms"]] == [("off", "more")]
    with pytest.raises(UsageError, match=r"--arm A=B; they have off at c1, on at c1 and on at c1, more at c1"):
        compare_runs(first, second, ("off", "gone"))
