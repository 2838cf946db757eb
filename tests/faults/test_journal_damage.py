"""Row 16: no damaged journal is half-loaded. A flipped bit is found, or nothing that was written has changed."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.agent.instruments import TOKEN_FATES
from workload.errors import UsageError
from workload.record.journal import Journal, read
from workload.record.schema import TABLES

ROOT = Path(__file__).parents[2]
CONFIG = {"limit": 5, "seed": 0}
FLIPS = 400
KILLED_WRITER = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.faults.test_journal_damage import CONFIG, fill
from workload.record.journal import Journal

journal = Journal(Path(sys.argv[1]), CONFIG)
asyncio.run(fill(journal, 12))
os.kill(os.getpid(), signal.SIGKILL)
"""


async def fill(journal: Journal, number: int, *, is_patient: bool = True) -> None:
    """Write down questions, each with a visit, a stage, a call and its text, and wait until each is acknowledged."""
    for _ in range(number):
        question, call = journal.new_id("question"), journal.new_id("llm_call")
        place = {"arm": "prefix-on", "block": 0, "phase": "c1", "segment": 0}
        sent = {"question_id": f"q{question}", "type": "bridge", "attempt": 1, "worker": "0"}
        times = {"started_at": 1e9 + question, "duration_seconds": 0.25 * question}
        journal.insert("question", {"id": question, **place, **sent, "intended_at": 1e9, "started_at": 1e9})
        for table, name in (("node_visit", "node"), ("stage", "stage")):
            row = {"question": question, name: "retrieve", "hop": 1, **times}
            journal.insert(table, row | ({"outcome": "ok"} if table == "node_visit" else {}))
        prefetch = {"question": question, "hop": 1, "outcome": "used", **times, "waited_seconds": 0.0}
        journal.insert("prefetch", prefetch)
        row = {"id": call, "question": question, "node": "decide", "hop": 1, "outcome": "ok", **times}
        journal.insert("llm_call", {**row, "prompt_tokens": 100 * question, "block_hashes": bytes(range(64))})
        text = {"call": call, "messages": "[]", "reply": f"reply {question}", "prompt_ids": b"", "output_ids": b""}
        journal.insert("call_text", text)
        fates = dict.fromkeys(TOKEN_FATES, 0) | {"hit": 16 * question, "cold": 84 * question}
        journal.insert("token_fate", {"call": call, "engine": "e0", **fates, "bound": 16 * question})
        journal.insert("token_gap", {"call": call, "microseconds": bytes(range(8))})
        segment = {"id": question, "started_at": 1e9, "first_question": question, "first_call": call}
        journal.insert("segment", {**segment, "dropped": 0, "paused": 0})
        sample = {"at": 1e9, "segment": question, "in_flight": 1, "level": 2, "is_held": 0, "runner_bytes": 2**30}
        journal.insert("sample", sample)
        action = {"at": 1e9, "action": "pause", "alert": "VllmDown", "status": "taken", "detail": f"action {question}"}
        journal.insert("action", action)
        journal.update("llm_call", call, {"reusable_tokens": 16 * question})
        journal.update("question", question, {"outcome": "ok", "duration_seconds": 1.5, "hops": 2, "answer_em": 1.0})
        if is_patient:
            await journal.acknowledge()


def content(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a journal, in order."""
    return {table: read(path, table) for table in TABLES}


def flipped(original: bytes, bit: int) -> bytes:
    """Return bytes with one bit changed."""
    damaged = bytearray(original)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def reopened(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what a run that goes on finds, once the journal has let it."""
    Journal(path, CONFIG).close()
    return content(path)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal that was closed."""
    path = tmp_path_factory.mktemp("closed") / "journal.sqlite"
    with Journal(path, CONFIG) as journal:
        asyncio.run(fill(journal, 12))
    return path


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal whose pages are well filled."""
    path = tmp_path_factory.mktemp("dense") / "journal.sqlite"
    with Journal(path, CONFIG) as journal:
        asyncio.run(fill(journal, 120, is_patient=False))
    return path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the journal of a process that was killed: all of it is still in the write-ahead log."""
    path = tmp_path_factory.mktemp("killed") / "journal.sqlite"
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, path], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    return path


def test_row_16_every_column_comes_back(closed: Path) -> None:
    """The checksum is the journal's own affair: rows look as if there were none, changed values included."""
    found = content(closed)
    assert {table: len(rows) for table, rows in found.items()} == dict.fromkeys(TABLES, 12)
    assert "checksum" not in found["question"][0]
    assert found["llm_call"][2]["reusable_tokens"] == 48


def test_row_16_a_flipped_bit_is_refused_or_harms_nothing(dense: Path, tmp_path: Path) -> None:
    """A flip in a number or a text leaves a sound database behind; only the row's checksum knows better."""
    original, path = dense.read_bytes(), tmp_path / "journal.sqlite"
    expected, chance = content(dense), random.Random(16)
    refused = 0
    for _ in range(FLIPS):
        path.unlink(missing_ok=True)
        path.write_bytes(flipped(original, chance.randrange(8 * len(original))))
        try:
            assert content(path) == expected
        except UsageError:
            refused += 1
            with pytest.raises(UsageError, match=r"\A[^\n]*\Z"):
                Journal(path, CONFIG)
    assert refused > FLIPS // 3


def test_row_16_a_flip_in_any_value_is_refused(closed: Path, tmp_path: Path) -> None:
    """One column after the other of one row, changed behind the journal's back, as a sound database."""
    path = tmp_path / "journal.sqlite"
    for table in TABLES:
        for column, value in read(closed, table)[3].items():
            if column in {"id", "call"}:
                continue
            shutil.copyfile(closed, path)
            changed = value + 1 if isinstance(value, int | float) else b"x" if isinstance(value, bytes) else f"{value}x"
            with sqlite3.connect(path) as connection:
                kind = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}[column]
                changed = changed if value is not None else {"REAL": 0.0, "INTEGER": 0}.get(kind, "x")
                changed = b"x" if kind == "BLOB" else changed
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 4", (changed,))  # noqa: S608
            connection.close()
            with pytest.raises(UsageError, match=f"row 4 of {table} is not as it was written"):
                read(path, table)


def test_row_16_a_killed_run_is_whole(killed: Path, tmp_path: Path, closed: Path) -> None:
    """Without damage the log is read to its end: what was acknowledged before the kill is there."""
    shutil.copytree(killed.parent, tmp_path / "copy")
    assert reopened(tmp_path / "copy" / "journal.sqlite") == content(closed)


@pytest.mark.parametrize(("part", "least"), [("journal.sqlite", 0), ("journal.sqlite-wal", 100)])
def test_row_16_a_flip_after_a_kill_is_refused_or_harms_nothing(
    part: str, least: int, killed: Path, tmp_path: Path, closed: Path
) -> None:
    """SQLite reads the log up to the first bad frame and says nothing about the acknowledged questions behind it.

    After a kill all that was written lies in the log, so a flip in the file itself changes nothing.
    """
    expected, chance = content(closed), random.Random(61)
    original = (killed.parent / part).read_bytes()
    refused = 0
    for number in range(60):
        folder = shutil.copytree(killed.parent, tmp_path / str(number))
        (folder / part).write_bytes(flipped(original, chance.randrange(8 * len(original))))
        (folder / "journal.sqlite-shm").unlink(missing_ok=True)
        for load in (content, reopened):
            try:
                assert load(folder / "journal.sqlite") == expected
            except UsageError:
                refused += 1
        shutil.rmtree(folder)
    assert refused >= least


@pytest.mark.parametrize("cut", [1, 2000, 4000])
def test_row_14_a_torn_tail_is_dropped(killed: Path, tmp_path: Path, cut: int, closed: Path) -> None:
    """A power cut tears the last commit, which was not acknowledged: the rest goes on."""
    folder = shutil.copytree(killed.parent, tmp_path / "copy")
    log = folder / "journal.sqlite-wal"
    os.truncate(log, log.stat().st_size - cut)
    found, expected = reopened(folder / "journal.sqlite"), content(closed)
    assert found["question"][:11] == expected["question"][:11]


def test_row_16_rows_written_by_others_are_refused(closed: Path, tmp_path: Path) -> None:
    """A row without a checksum was not written by a run."""
    path = Path(shutil.copyfile(closed, tmp_path / "journal.sqlite"))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO stage (question, stage, hop, started_at, duration_seconds) VALUES (1,'x',1,1,1)"
        )
    connection.close()
    with pytest.raises(UsageError, match="row 13 of stage"):
        read(path, "stage")


def test_row_16_another_table_s_shape_is_refused(closed: Path, tmp_path: Path) -> None:
    """A column that was renamed would come back under another name."""
    path = Path(shutil.copyfile(closed, tmp_path / "journal.sqlite"))
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE question RENAME COLUMN hops TO hopt")
    connection.close()
    with pytest.raises(UsageError, match="tables are not as they were made"):
        read(path, "question")
