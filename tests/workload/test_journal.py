"""The run's record: what was acknowledged survives a SIGKILL, and what is not a whole journal of ours is refused."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workload.errors import StorageError, UsageError
from workload.journal import Journal, read

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = {"limit": 5, "seed": 0}
WRITER = """
import asyncio, sys
from pathlib import Path
from tests.workload.test_journal import CONFIG, visit_rows
from workload.journal import Journal

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
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert child.stdout
    acknowledged = -1
    while acknowledged < 25:
        acknowledged = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *map(int, child.stdout.read().split())])
    child.wait(10)
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


async def test_many_may_wait_for_the_disk_at_once(tmp_path: Path) -> None:
    """Workers acknowledge independently; a mark that is lost would hold its question back for ever."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, CONFIG) as journal:

        async def ask(number: int) -> None:
            journal.insert("node_visit", visit_rows(number)[0])
            await journal.acknowledge()

        await asyncio.wait_for(asyncio.gather(*map(ask, range(64))), 20)
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


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """A journal may hold texts of prompts; its side files hold the same bytes."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, CONFIG) as journal:
        journal.insert("node_visit", visit_rows(0)[0])
        files = list(tmp_path.iterdir())
        assert len(files) > 1
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_row_16_another_configuration_is_refused(tmp_path: Path) -> None:
    """Half a run of twenty questions and half of one of fifty are no run at all."""
    path = tmp_path / "journal.sqlite"
    write(path)
    with pytest.raises(UsageError, match="another config") as refused:
        Journal(path, {**CONFIG, "limit": 50})
    assert refused.value.exit_code == 2
    assert len(read(path, "node_visit")) == 120


def test_row_16_another_schema_is_refused(tmp_path: Path) -> None:
    """A journal of another release has other columns; half of its rows would load."""
    path = tmp_path / "journal.sqlite"
    write(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '0' WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(UsageError, match="another schema version: 0"):
        Journal(path, CONFIG)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_row_16_a_truncated_journal_is_refused(tmp_path: Path, part: float) -> None:
    """A full disk or a broken copy cuts files; what is left must not be taken for a short run."""
    path = tmp_path / "journal.sqlite"
    write(path)
    size = path.stat().st_size
    os.truncate(path, int(size * part))
    with pytest.raises(UsageError, match="damaged"):
        Journal(path, CONFIG)


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\x00" + bytes(200)])
def test_row_16_another_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    """A wrong path must not cost its owner the file."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a journal"):
        Journal(path, CONFIG)
    assert path.read_bytes() == content


def test_row_16_a_flipped_bit_in_the_structure_is_refused(tmp_path: Path) -> None:
    """Each page's header says how to read it; a flip there would shift rows without a word."""
    path = tmp_path / "journal.sqlite"
    write(path, rows=200)
    content = path.read_bytes()
    page_size = int.from_bytes(content[16:18], "big")
    chance = random.Random(0)
    for page in range(1, len(content) // page_size):
        damaged = bytearray(content)
        damaged[page * page_size + chance.randrange(8)] ^= 0x80
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged"):
            Journal(path, CONFIG)


async def acknowledge_rows(path: Path, rows: list[dict[str, Any]]) -> int:
    """Write rows, each acknowledged within five seconds; return how many were before the first failure."""
    journal = Journal(path, CONFIG)
    acknowledged = 0
    try:
        for row in rows:
            journal.insert("node_visit", row)
            await asyncio.wait_for(journal.acknowledge(), 5)
            acknowledged += 1
    except StorageError:
        with pytest.raises(StorageError):
            journal.close()
        return acknowledged
    journal.close()
    return acknowledged


@pytest.mark.parametrize("value", ["\ud800", 2**100], ids=["lone surrogate", "100 bits"])
async def test_a_value_that_sqlite_cannot_hold_hangs_nobody(tmp_path: Path, value: Any) -> None:
    """It ends the write with an error that is none of SQLite's; a writer that died of it would never answer."""
    good = visit_rows(0)[0]
    assert await acknowledge_rows(tmp_path / "journal.sqlite", [good, {**good, "node": value}, good]) == 1


async def test_row_15_after_a_failed_write_nothing_is_acknowledged(tmp_path: Path) -> None:
    """After one lost row nothing later may claim to be safe, even if the disk has recovered."""
    with Journal(tmp_path / "journal.sqlite", CONFIG) as journal:
        journal.insert("node_visit", {"node": "a row without its columns"})
        for _ in range(2):
            with pytest.raises(StorageError, match="cannot be written"):
                await journal.acknowledge()
            journal.insert("node_visit", visit_rows(0)[0])
        with pytest.raises(StorageError):
            journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


async def test_row_15_a_full_disk_keeps_what_was_acknowledged(small_disk: Path) -> None:
    """ENOSPC in mid-run: every acknowledged row is still there, and the failure has the exit code of a disk."""
    path = small_disk / "journal.sqlite"
    acknowledged = await acknowledge_rows(path, [visit_rows(number)[0] for number in range(10_000)])
    assert 10 < acknowledged < 10_000
    assert len(read(path, "node_visit")) >= acknowledged
    assert StorageError.exit_code == 5


def test_row_15_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    """It is the disk that is full, not the journal that is damaged: exit code 5, not 2."""
    (small_disk / "ballast").write_bytes(bytes(252 * 1024))
    with pytest.raises(StorageError):
        Journal(small_disk / "journal.sqlite", CONFIG)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The remedy is another --results."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be created"):
        Journal(tmp_path / "file" / "journal.sqlite", CONFIG)


@pytest.mark.parametrize("folder", ["a b", "100%41", "what?", "#1"])
def test_any_folder_name_can_be_read_again(tmp_path: Path, folder: str) -> None:
    """SQLite opens by URL for reading, where ?, # and % mean something."""
    path = tmp_path / folder / "journal.sqlite"
    write(path, rows=1)
    assert len(read(path, "node_visit")) == 3


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    """Reading must neither create a journal nor take a table's name on trust."""
    path = tmp_path / "journal.sqlite"
    with pytest.raises(UsageError, match="no table"):
        read(path, "node_visit")
    assert not path.exists()
    write(path)
    with pytest.raises(UsageError, match="no table"):
        read(path, "sqlite_master; DROP TABLE question")
    path.write_bytes(b"not a database at all")
    with pytest.raises(UsageError, match="damaged"):
        read(path, "node_visit")


async def test_a_worker_that_stops_waiting_stops_nobody_else(tmp_path: Path) -> None:
    """Ctrl-C cancels workers in the middle of an acknowledgement; the writer has to go on for the others."""
    with Journal(tmp_path / "journal.sqlite", CONFIG) as journal:
        for number in range(20):
            journal.insert("node_visit", visit_rows(number)[0])
            waiting = asyncio.create_task(journal.acknowledge())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(journal.acknowledge(), 5)
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
