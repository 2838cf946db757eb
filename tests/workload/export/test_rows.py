"""Questions and calls for other tools: one row each, with the latencies, without what no table can hold."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from tests.stubs.recorded import record_run
from workload.export.rows import write_rows
from workload.record.runs import open_recorded

if TYPE_CHECKING:
    from pathlib import Path


def test_json_lines_and_csv_have_the_same_rows(tmp_path: Path) -> None:
    """A number that a tool reads from one must be in the other; what is unknown is empty, not zero."""
    record_run(tmp_path, "a", {"q1": 1.8, "=q2": 3.6}, reusable_tokens=None)
    data = open_recorded(tmp_path, "a").data
    lines = {path.name: path.read_text() for path in write_rows(data, tmp_path / "out", "jsonl")}
    tables = {path.name: path.read_text() for path in write_rows(data, tmp_path / "out", "csv")}
    calls = [json.loads(line) for line in lines["calls.jsonl"].splitlines()]
    assert [call["itl_seconds"] for call in calls] == pytest.approx([0.1, 0.2])
    assert [call["e2e_seconds"] for call in calls] == pytest.approx([1.8, 3.6])
    assert calls[0]["reusable_tokens"] is None
    rows = list(csv.DictReader(tables["calls.csv"].splitlines()))
    assert [float(row["tpot_seconds"]) for row in rows] == pytest.approx([0.1, 0.2])
    assert rows[0]["reusable_tokens"] == ""
    questions = [json.loads(line)["question_id"] for line in lines["questions.jsonl"].splitlines()]
    assert questions == ["q1", "=q2"]
    assert [row["question_id"] for row in csv.DictReader(tables["questions.csv"].splitlines())] == ["q1", "'=q2"]
