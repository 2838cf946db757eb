"""`hop2rag runs` from the command line: tables for people, JSON for programs, nothing but files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.stubs.recorded import record_run
from workload.cli import run_command_line

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a results folder with two runs of the same questions."""
    seconds = {f"q{number}": 1.0 + number for number in range(8)}
    record_run(tmp_path, "one", seconds)
    record_run(tmp_path, "two", {name: 1.5 * value for name, value in seconds.items()})
    return tmp_path


def test_runs_are_listed_and_compared_as_tables(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed must name the runs and the paired change."""
    assert run_command_line(["runs", "list", "--results", str(results)]) == 0
    assert "2 runs in" in capsys.readouterr().out
    assert run_command_line(["runs", "compare", "one", "two", "--results", str(results)]) == 0
    assert "+50.0%" in capsys.readouterr().out


def test_a_program_gets_json_and_nothing_else(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table among the JSON would end the program that reads it."""
    assert run_command_line(["runs", "list", "--json", "--results", str(results)]) == 0
    assert [line["run"] for line in json.loads(capsys.readouterr().out)] == ["one", "two"]
    assert run_command_line(["runs", "compare", "one", "two", "--json", "--results", str(results)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == ["one", "two"]
    objectives = ["--slo", "question=4", "--json", "--results", str(results)]
    assert run_command_line(["runs", "show", "one", *objectives]) == 0
    (served,) = json.loads(capsys.readouterr().out)["serving"]
    assert served["goodput"]["share"] == 0.5


def test_rows_are_exported_where_they_are_wanted(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The paths are printed, so that a script can go on with them."""
    folder = results / "out"
    command = ["runs", "export", "one", "--out", str(folder), "--format", "csv", "--results", str(results)]
    assert run_command_line(command) == 0
    assert capsys.readouterr().out.split() == [str(folder / "questions.csv"), str(folder / "calls.csv")]
    assert run_command_line(["runs", "export", "one", "--format", "xml", "--results", str(results)]) == 2
