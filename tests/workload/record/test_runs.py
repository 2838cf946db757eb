"""The list of runs, and a run opened for its rows: what is damaged says so and hides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.recorded import record_run
from workload.errors import UsageError
from workload.record.bundle import Bundle
from workload.record.runs import list_runs, open_recorded

if TYPE_CHECKING:
    from pathlib import Path


def test_runs_are_listed_in_order_with_what_they_were(tmp_path: Path) -> None:
    """A damaged run among a hundred must not hide the others."""
    record_run(tmp_path, "2-b", {"q1": 1.0, "q2": 2.0})
    record_run(tmp_path, "1-a", {"q1": 1.0})
    Bundle(tmp_path, "3-c").write_text("manifest.json", "{")
    found = list_runs(tmp_path)
    assert [(line.run, line.experiment, line.questions, line.model) for line in found] == [
        ("1-a", "latency", 1, "stub"),
        ("2-b", "latency", 2, "stub"),
        ("3-c", "", 0, ""),
    ]
    assert [line.status for line in found] == ["finished", "finished", "damaged, or of another release"]
    assert list_runs(tmp_path / "none") == []


def test_a_run_is_opened_with_its_rows_and_facts(tmp_path: Path) -> None:
    """A comparison needs to know on which engine, model and corpus the rows came to be."""
    record_run(tmp_path, "a", {"q1": 1.0, "q2": 2.0})
    found = open_recorded(tmp_path, "a")
    assert [row["question_id"] for row in found.data.questions] == ["q1", "q2"]
    assert found.facts["engine model"] == "stub"
    assert found.facts["k"] == 10
    assert found.facts["corpus"] == {"source": "synthetic"}


def test_a_run_that_measured_nothing_is_refused(tmp_path: Path) -> None:
    """It has no rows that count."""
    bundle = Bundle(tmp_path, "a")
    bundle.start("latency", {"limit": 1, "k": 1, "max_hops": 1})
    with pytest.raises(UsageError, match="no measured window yet: it is running"):
        open_recorded(tmp_path, "a")
