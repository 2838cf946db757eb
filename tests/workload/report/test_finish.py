"""The files that a run leaves, with and without pictures, for every experiment on an engine."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.load import Rows, run_of
from workload.experiment import Experiment
from workload.experiments import EXPERIMENTS
from workload.promql.vllm_metrics import COUNTERS
from workload.record.evidence import Evidence
from workload.record.journal import Journal
from workload.record.results import Measured, evidence_of
from workload.record.schema import TABLES
from workload.report.finish import finish

if TYPE_CHECKING:
    from pathlib import Path

ON_ENGINES = [found for found in EXPERIMENTS.values() if isinstance(found, Experiment)]
MISSING = {"type": "bridge", "attempt": 1, "termination": "done", "digest": "x", "cached_tokens": 0}


def record(path: Path, rows: Rows) -> None:
    """Write a load to a journal, of each row what the journal has a column for."""
    with closing(sqlite3.connect(path)) as database:
        columns = {table: {name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")} for table in TABLES}
    with Journal(path, {}) as journal:
        for table, found in (
            ("question", rows.questions),
            ("llm_call", rows.calls),
            ("node_visit", rows.visits),
            ("stage", rows.stages),
        ):
            for row in found:
                known = {**MISSING, **row}
                journal.insert(table, {name: known[name] for name in columns[table] & known.keys()})


def conclude(experiment: Experiment, folder: Path, *, figures: bool) -> tuple[dict[str, Any], list[Path]]:
    """Finish a run of two questions in the experiment's first arm; return the JSON in its folder, and its pictures."""
    rows = Rows()
    rows.ask()
    rows.ask(start=rows.end)
    arm = experiment.arms[0].name
    for row in (*rows.questions, *rows.calls, *rows.visits, *rows.stages):
        row["arm"] = arm
    data = run_of(rows, folder)
    evidence = evidence_of(data)
    record(evidence.bundle.journal, rows)
    evidence.bundle.start(experiment.name, {})
    reported = {"prefix_caching": False, "max_model_len": 8192, "model_path": None, **data.measured[0].engine}
    window = data.measured[0].window
    accounting = {"scheduled": 2, "sent": 2, "dropped": 0, "ok": 2, "failed": {}, "cancelled": 0}
    measured = Measured(type(window)(**{**window.as_dict(), "arm": arm}), reported, dict.fromkeys(COUNTERS), accounting)
    run = Evidence(evidence.client, experiment.name, evidence.bundle, evidence.settings)
    finish(experiment, run, [measured], draws=figures)
    results = folder / "hop2rag" / experiment.folder
    return json.loads((results / experiment.summary_file).read_text()), sorted(results.glob("*.png"))


@pytest.mark.parametrize("experiment", ON_ENGINES, ids=lambda experiment: experiment.name)
def test_without_figures_the_json_is_the_same(experiment: Experiment, tmp_path: Path) -> None:
    """Whoever has no display gets every number; a drawing that adds to the summary would be seen here."""
    drawn, pictures = conclude(experiment, tmp_path / "with", figures=True)
    plain, none = conclude(experiment, tmp_path / "without", figures=False)
    assert len(pictures) >= 2
    assert all(picture.stat().st_size > 10_000 for picture in pictures)
    assert none == []
    assert plain == drawn
    assert {found["questions"] for found in plain["quality"].values()} >= {2}
