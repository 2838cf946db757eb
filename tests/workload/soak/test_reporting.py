"""Every segment can be reported, however its process ended: eight hours are not lost for one row."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.soak import RUN, soak
from tests.stubs.vllm import StubVllm
from workload.record.bundle import Bundle
from workload.soak import soak as soak_module
from workload.soak.record import SoakRecord
from workload.soak.reporting import report
from workload.soak.soak import steady
from workload.soak.summary import verdicts

if TYPE_CHECKING:
    from pathlib import Path

    from workload.soak.reporting import FinishedSoak

FACTS = {"status": "finished", "ending": "finished", "exit_code": 0, "counter_resets": None, "recorded_share": None}


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a soak of several segments."""
    folder = tmp_path_factory.mktemp("soaked")
    with pytest.MonkeyPatch.context() as patch, StubVllm() as stub:
        patch.setattr(soak_module, "CHECKPOINT_SECONDS", 0.1)
        soak(stub.url, folder, {"questions": 12, "segment": "0.2s", "alerts": False})
    return folder


def reported(soaked: Path, folder: Path, *changes: str) -> FinishedSoak:
    """Return the report of a copy of that soak whose journal was changed."""
    bundle = Bundle(folder, RUN)
    bundle.start("soak", {})
    with sqlite3.connect(soaked / "runs" / RUN / "journal.sqlite") as source, sqlite3.connect(bundle.journal) as copy:
        source.backup(copy)
        for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            copy.execute(f'DROP TRIGGER "{name}"')
        for change in changes:
            copy.execute(change)
    return report(bundle, SoakRecord(bundle.journal), dict(FACTS), "a test", draws=True)


CHANGES: dict[str, tuple[str, ...]] = {
    "killed between a segment's end and its summary": ("UPDATE segment SET summary = NULL WHERE id = 1",),
    "no summary at all": ("UPDATE segment SET summary = NULL",),
    "a summary that is none": ("UPDATE segment SET summary = '[]' WHERE id = 0",),
    "killed within the last segment": (
        "UPDATE segment SET ended_at = NULL, summary = NULL WHERE id = (SELECT max(id) FROM segment)",
    ),
    "no segment has an end": ("UPDATE segment SET ended_at = NULL, summary = NULL",),
    "the clock was set back": ("UPDATE segment SET ended_at = started_at - 3600 WHERE id = 1",),
    "the clock was set back before the end": (
        "UPDATE segment SET ended_at = started_at - 3600 WHERE id = (SELECT max(id) FROM segment)",
    ),
    "no samples": ("DELETE FROM sample",),
    "no table of samples": ("DROP TABLE sample",),
    "no table of actions": ("DROP TABLE action",),
    "no table of segments": ("DROP TABLE segment",),
    "no segments": ("DELETE FROM segment",),
    "no questions": ("DELETE FROM question", "DELETE FROM llm_call"),
    "nothing but segments": ("DELETE FROM question", "DELETE FROM llm_call", "DELETE FROM sample"),
}


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize("changes", CHANGES.values(), ids=list(CHANGES))
def test_row_23_whatever_is_missing_the_report_is_written(
    soaked: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    """A process that was killed between a segment's end and its summary left hours that no report could be made of."""
    finished = reported(soaked, tmp_path, *changes)
    assert (finished.bundle / "report.html").stat().st_size > 1000
    assert (finished.bundle / "soak.png").exists()
    json.dumps(finished.summary, allow_nan=False)
    sent = sum(segment["summary"]["sent"] for segment in finished.summary["segments"])
    if not any("DELETE" in change or "DROP TABLE segment" in change for change in changes):
        assert sent == finished.summary["accounting"]["sent"] == 12
    assert finished.summary["end"] >= finished.summary["start"]


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize(("table", "named"), [("sample", "samples"), ("action", "actions"), ("segment", "segments")])
def test_what_is_missing_is_said(soaked: Path, tmp_path: Path, table: str, named: str) -> None:
    """No actions, because none were written down, is not "Actions: none"."""
    assert f"Not recorded: {named}." in verdicts(reported(soaked, tmp_path, f"DROP TABLE {table}").summary)


def test_a_time_that_is_not_known_is_called_that(soaked: Path, tmp_path: Path) -> None:
    """A segment without an end has no length; 0 would be one."""
    finished = reported(soaked, tmp_path, "UPDATE segment SET ended_at = NULL WHERE id = 0")
    assert "not recorded" in (finished.bundle / "report.html").read_text()


@pytest.mark.parametrize("step", [-3600.0, 7200.0])
def test_row_23_a_clock_that_is_set_changes_no_time_within_a_run(step: float) -> None:
    """Set back an hour in mid-run, a segment had lasted -59.9 minutes, and the next one 120."""
    now: dict[str, Any] = {"wall": 1_700_000_000.0, "monotonic": 50.0}
    clock = steady(lambda: now["monotonic"], lambda: now["wall"])
    assert clock() == 1_700_000_000.0
    now["wall"] += step
    now["monotonic"] += 60.0
    assert clock() == 1_700_000_060.0
