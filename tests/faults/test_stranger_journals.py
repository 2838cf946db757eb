"""Row 21: a journal or a checkpoint of a stranger's. What is read of it ends, and is said in one line if it is odd."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.inputs import JSON_VALUES, answer, many
from tests.stubs.questions import questions_about
from workload.cli import run_command_line
from workload.errors import UsageError
from workload.record import integrity
from workload.record.bundle import Bundle
from workload.record.journal import Journal, opened, read
from workload.record.schema import TABLES
from workload.soak.checkpoint import FILE, Checkpoint, read_checkpoint
from workload.soak.question_stream import QuestionStream
from workload.soak.record import SoakRecord

if TYPE_CHECKING:
    from pathlib import Path

RUN, NOWHERE = "evil", "http://127.0.0.1:1"
ENDLESS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    "SELECT 'k' || x AS key, x AS value, x AS block, x AS id, 'q' AS question_id FROM c"
)
# What a stranger's journal may have next to, or instead of, a table of ours; {name} is the table's.
STRANGE = {
    "a view without end": f"DROP TABLE {{name}}; CREATE VIEW {{name}} AS {ENDLESS}",
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON {name} BEGIN DELETE FROM question; END",
    "another table": "CREATE TABLE beside (x)",
    "a virtual table": "DROP TABLE {name}; CREATE VIRTUAL TABLE {name} USING fts5(x)",
    "a computed column": "DROP TABLE {name}; CREATE TABLE {name} (x, y AS (zeroblob(x)))",
    "an index over an expression": "CREATE INDEX i ON {name} (hex(zeroblob(1000)))",
}


def sound(path: Path) -> None:
    """Write a journal with a row."""
    with Journal(path, {}) as journal:
        row = {"question": 1, "stage": "embed", "hop": 1, "started_at": 1.0, "duration_seconds": 0.5}
        journal.insert("stage", row)


def refusals(path: Path) -> list[str]:
    """Return what each reader of a journal says of it."""
    said = []
    for reader in (
        lambda: [read(path, table) for table in TABLES],
        lambda: SoakRecord(path).resume_point(),
        lambda: SoakRecord(path).has_begun(),
        lambda: Journal(path, {}),
    ):
        with pytest.raises(UsageError) as raised:
            reader()
        said.append(str(raised.value))
    return said


@pytest.mark.parametrize("name", ["meta", "question", "segment", "llm_call"])
@pytest.mark.parametrize("script", STRANGE.values(), ids=STRANGE)
def test_row_21_of_strange_tables_no_row_is_read(tmp_path: Path, script: str, name: str) -> None:
    """Reading `meta` of a journal whose `meta` is a view never ended; a soak's reader never looked."""
    path = tmp_path / "journal.sqlite"
    sound(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script.format(name=name))
    assert all("damaged: its tables are not as they were made" in line for line in refusals(path))


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "latency", "--vllm-endpoint", NOWHERE, "--replay", RUN),
        ("run", "kv-cache", "--from-run", RUN),
        ("run", "kv-cache", "--replay", RUN),
    ],
)
def test_row_21_a_journal_without_end_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """Every command that opens a run's journal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOP2RAG_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "results" / "runs" / RUN
    folder.mkdir(parents=True)
    reported = {"experiment": "latency", "settings": {"limit": 1, "max_hops": 1, "k": 1}, "measured": []}
    (folder / "manifest.json").write_text(json.dumps(reported))
    with closing(sqlite3.connect(folder / "journal.sqlite")) as connection:
        for name in ("meta", "question", "call_text"):
            connection.execute(f"CREATE VIEW {name} AS {ENDLESS}")
    assert run_command_line([*arguments]) == 2
    assert "its tables are not as they were made" in " ".join(capsys.readouterr().err.split())


def test_row_21_what_a_journal_costs_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage that no check foresees ends in a line as well: steps are counted, not seconds."""
    path = tmp_path / "journal.sqlite"
    sound(path)
    with pytest.raises(UsageError, match="interrupted"), opened(path, "") as connection:
        connection.execute(ENDLESS).fetchall()
    monkeypatch.setattr(integrity, "MAX_VALUE_BYTES", 10**6)
    with pytest.raises(UsageError, match="too big"), opened(path, "") as connection:
        connection.execute("SELECT zeroblob(2000000)").fetchall()
    path.with_name("journal.sqlite-wal").write_bytes(bytes(100))
    monkeypatch.setattr(integrity, "MAX_LOG_BYTES", 50)
    with pytest.raises(UsageError, match="damaged: ValueError"):
        read(path, "stage")


CHECKPOINT: dict[str, Any] = {
    "at": 1.0,
    "elapsed_seconds": 1.0,
    "segment": 0,
    "lap": 0,
    "index": 0,
    "level": 1,
    "holds": ["heartbeat"],
    "accounting": {},
    "firing": {},
}
ODD_CHECKPOINTS: dict[str, Any] = {
    "no number of seconds": {"elapsed_seconds": float("nan")},
    "a time without end": {"elapsed_seconds": float("inf")},
    "a soak that never ends": {"elapsed_seconds": -1e9},
    "a text for a number": {"elapsed_seconds": "5"},
    "a switch for a number": {"elapsed_seconds": True},
    "too many digits": {"elapsed_seconds": 10**400},
    "an instant that never was": {"at": -1},
    "a lap before the first": {"lap": -1},
    "half a question": {"index": 1.5},
    "no list of holds": {"holds": "ab"},
    "holds that are none": {"holds": [1]},
    "a word too much": {"more": 1},
}


@pytest.mark.parametrize("change", ODD_CHECKPOINTS.values(), ids=ODD_CHECKPOINTS)
def test_row_21_a_checkpoint_is_within_every_range(tmp_path: Path, change: dict[str, Any]) -> None:
    """A soak of two seconds went on for thirty years."""
    bundle = Bundle(tmp_path, RUN)
    (bundle.folder / FILE).write_text(json.dumps(CHECKPOINT))
    assert read_checkpoint(bundle) is not None
    (bundle.folder / FILE).write_text(json.dumps({**CHECKPOINT, **change}))
    with pytest.raises(UsageError, match=r"checkpoint\.json is damaged"):
        read_checkpoint(bundle)


@many
@given(st.fixed_dictionaries({name: st.just(value) | JSON_VALUES for name, value in CHECKPOINT.items()}))
def test_row_21_any_checkpoint_ends_its_soak_or_is_refused(tmp_path: Path, reported: dict[str, Any]) -> None:
    """What is accepted counts towards the duration."""
    bundle = Bundle(tmp_path, RUN)
    (bundle.folder / FILE).write_text(json.dumps(reported))
    found = answer(lambda: read_checkpoint(bundle), UsageError)
    if found is not None:
        assert isinstance(found, Checkpoint)
        assert 0 <= found.elapsed_seconds < 1e10


def test_row_21_a_journal_of_a_larger_corpus_goes_on_with_the_next_lap() -> None:
    """Its place in the lap lies behind the end of this one."""
    item = QuestionStream(questions_about(range(3)), 0, lap=0, index=5).take()
    assert (item.lap, item.question in questions_about(range(3))) == (1, True)
