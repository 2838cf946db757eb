"""The run's record: what was acknowledged survives a SIGKILL, and what is not a whole journal of ours is refused."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from workload.errors import UsageError
from workload.record.journal import Journal, read

CONFIG = {"limit": 5, "seed": 0}
WRITER = """
import asyncio, sys
from pathlib import Path
from tests.workload.record.test_journal import CONFIG, visit_rows
from workload.record.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]), CONFIG)
    for number in range(10**6):
        for row in visit_rows(number):
            journal.insert("node_visit", row)
        await journal.acknowledge()
        print(number, flush=True)

asyncio.run(main())
"""


def visit_rows(number: int) -> list[dict[str, Any]]:
    """Return three rows that belong together."""
    row = {"question": number, "hop": 1, "started_at": 1.5, "duration_seconds": 0.25, "outcome": "ok"}
    return [{"node": node, **row} for node in ("decompose", "retrieve", "grade")]


def write(path: Path, rows: int = 40, config: dict[str, Any] | None = None) -> None:
    """Write a journal of some questions and close it."""
    with Journal(path, config or CONFIG) as journal:
        for number in range(rows):
            for row in visit_rows(number):
                journal.insert("node_visit", row)


def test_row_14_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL right after an acknowledgement: that question is whole on disk, and the journal opens again."""
    path = tmp_path / "journal.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    assert child.stdout
    acknowledged = -1
    while acknowledged < 25:
        acknowledged = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *map(int, child.stdout.read().split())])
    child.wait(60)
    child.stdout.close()
    Journal(path, CONFIG).close()
    rows = read(path, "node_visit")
    assert [row["question"] for row in rows[: 3 * (acknowledged + 1)]] == [
        number for number in range(acknowledged + 1) for _ in range(3)
    ]
    assert rows[0] == visit_rows(0)[0]


async def test_rows_are_readable_as_soon_as_they_are_acknowledged(tmp_path: Path) -> None:
    """Another process may look at a run that goes on."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, CONFIG) as journal:
        journal.insert("node_visit", visit_rows(7)[0])
        await journal.acknowledge()
        assert [row["question"] for row in read(path, "node_visit")] == [7]


def test_a_run_can_be_watched_while_its_log_begins_anew(tmp_path: Path) -> None:
    """A log that was folded into the file is written from its start again; a reader must not take that for damage."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, CONFIG) as journal:
        journal._connection.execute("PRAGMA wal_autocheckpoint = 2")
        for number in range(150):
            journal.insert("node_visit", visit_rows(number)[0])
            asyncio.run(journal.acknowledge())
            assert len(read(path, "node_visit")) == number + 1


async def test_many_may_wait_for_the_disk_at_once(tmp_path: Path) -> None:
    """Workers acknowledge independently; a lost mark would block its question for ever."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, CONFIG) as journal:

        async def ask(number: int) -> None:
            journal.insert("node_visit", visit_rows(number)[0])
            await journal.acknowledge()

        await asyncio.wait_for(asyncio.gather(*map(ask, range(64))), 60)
    assert {row["question"] for row in read(path, "node_visit")} == set(range(64))


def test_going_on_counts_ids_on(tmp_path: Path) -> None:
    """A second process that began at 1 again would overwrite or mix the calls of two questions."""
    path = tmp_path / "journal.sqlite"
    call = {"question": 1, "node": "decide", "hop": 1, "started_at": 0.0, "duration_seconds": 1.0, "outcome": "ok"}
    for expected in (1, 2):
        with Journal(path, CONFIG) as journal:
            assert journal.new_id("llm_call") == expected
            journal.insert("llm_call", {"id": expected, **call})
            journal.update("llm_call", expected, {"reusable_tokens": 32 * expected})
    assert [row["reusable_tokens"] for row in read(path, "llm_call")] == [32, 64]


def test_a_journal_of_before_a_table_has_none_of_its_rows(tmp_path: Path) -> None:
    """The shipped CPU recording is of before prefetches were kept; refused as damaged, it could not be drawn again."""
    path = tmp_path / "journal.sqlite"
    write(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE prefetch")
    assert read(path, "prefetch") == []
    assert len(read(path, "node_visit")) > 0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE stage")
    with pytest.raises(UsageError):
        read(path, "stage")


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """A journal may contain texts of prompts; its side files contain the same bytes."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, CONFIG) as journal:
        journal.insert("node_visit", visit_rows(0)[0])
        files = list(tmp_path.iterdir())
        assert len(files) > 1
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.parametrize("folder", ["a b", "100%41", "what?", "#1"])
def test_any_folder_name_can_be_read_again(tmp_path: Path, folder: str) -> None:
    """SQLite opens by URL for reading, where ?, # and % mean something."""
    path = tmp_path / folder / "journal.sqlite"
    write(path, rows=1)
    assert len(read(path, "node_visit")) == 3


async def test_a_worker_that_stops_waiting_stops_no_other(tmp_path: Path) -> None:
    """Ctrl-C cancels workers in the middle of an acknowledgement; the writer has to go on for the others."""
    with Journal(tmp_path / "journal.sqlite", CONFIG) as journal:
        for number in range(20):
            journal.insert("node_visit", visit_rows(number)[0])
            waiting = asyncio.create_task(journal.acknowledge())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(journal.acknowledge(), 60)
    assert len(read(tmp_path / "journal.sqlite", "node_visit")) == 20


def test_a_reader_does_not_stop_the_end_of_a_run(tmp_path: Path) -> None:
    """Somebody may look at the journal just then; it is closed all the same, and nothing is lost."""
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(":memory:") as reader, Journal(path, CONFIG) as journal:
        journal.insert("node_visit", visit_rows(0)[0])
        asyncio.run(journal.acknowledge())
        reader.execute("ATTACH ? AS run", (path.as_uri(),))
        rows = reader.execute("SELECT * FROM run.node_visit")
        rows.fetchone()
    reader.close()
    assert len(read(path, "node_visit")) == 1
    Journal(path, CONFIG).close()


async def test_rows_are_written_together_and_soon(tmp_path: Path) -> None:
    """A commit for each row costs a question more than all other metering; yet a crash must find what was in flight."""
    path = tmp_path / "journal.sqlite"
    commits = []
    with Journal(path, CONFIG) as journal:
        journal._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        for number in range(30):
            journal.insert("node_visit", visit_rows(number)[0])
            await asyncio.sleep(0.001)
        async with asyncio.timeout(5):
            while len(read(path, "node_visit")) < 30:  # noqa: ASYNC110 - a thread writes, which knows no event of ours
                await asyncio.sleep(0.02)
        assert len(commits) < 10


def test_acknowledged_means_on_the_medium(tmp_path: Path) -> None:
    """A kill leaves the system's cache, a power cut does not: commits wait for the disk itself (2 is FULL)."""
    with Journal(tmp_path / "journal.sqlite", CONFIG) as journal:
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
