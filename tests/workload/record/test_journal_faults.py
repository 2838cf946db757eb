"""A journal that cannot be written, or cannot be trusted: said in one line, with the exit code of the cause."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.workload.record.test_journal import CONFIG, visit_rows, write
from workload.errors import StorageError, UsageError
from workload.record.journal import Journal, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
            await asyncio.wait_for(journal.acknowledge(), 60)
            acknowledged += 1
    except StorageError:
        with pytest.raises(StorageError):
            journal.close()
        return acknowledged
    journal.close()
    return acknowledged


@pytest.mark.parametrize("value", ["\ud800", 2**100], ids=["lone surrogate", "100 bits"])
async def test_a_value_that_sqlite_cannot_store_hangs_no_one(tmp_path: Path, value: Any) -> None:
    """It ends the write with an error that is none of SQLite's; a writer that died of it would never answer."""
    good = visit_rows(0)[0]
    assert await acknowledge_rows(tmp_path / "journal.sqlite", [good, {**good, "node": value}, good]) == 1


@pytest.mark.parametrize("value", ["\ud800", 2**100, [1], None, "text"], ids=repr)
async def test_a_value_that_sqlite_cannot_hold_is_no_full_disk(tmp_path: Path, value: Any) -> None:
    """Whoever reads "Free disk space" looks for hours in the wrong place."""
    journal = Journal(tmp_path / "journal.sqlite", CONFIG)
    journal.insert("node_visit", {**visit_rows(0)[0], "started_at": value})
    with pytest.raises(StorageError, match="cannot store a value") as raised:
        await journal.acknowledge()
    assert "disk space" not in str(raised.value)
    with pytest.raises(StorageError):
        journal.close()


async def test_row_15_after_a_failed_write_nothing_is_acknowledged(tmp_path: Path) -> None:
    """After one lost row nothing later may claim to be safe, even if the disk has recovered."""
    with Journal(tmp_path / "journal.sqlite", CONFIG) as journal:
        journal.insert("node_visit", {"node": "a row without its columns"})
        for _ in range(2):
            with pytest.raises(StorageError, match="cannot store a value"):
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
