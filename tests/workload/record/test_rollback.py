"""A journal whose process was killed while it was opened or closed: every reader restores it, or says what to do."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.workload.record.test_journal import CONFIG, write
from workload.errors import StorageError, UsageError
from workload.record.history import read_history
from workload.record.journal import Journal, read
from workload.record.results import read_run
from workload.record.rollback import MAGIC, SIZES_AT
from workload.soak.record import SoakRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUESTIONS = "SELECT count(*) FROM question"
READERS: dict[str, Callable[[Path], Any]] = {
    "rows": lambda path: read(path, "question"),
    "results": lambda path: read_run(path, ()),
    "history": lambda path: read_history(path, ()),
    "soak": lambda path: [tuple(row) for row in SoakRecord(path).rows(QUESTIONS)],
    "writer": lambda path: Journal(path, CONFIG).close(),
}


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Return a journal with rows, half changed, beside the rollback journal that guards it."""
    path = tmp_path / "run" / "journal.sqlite"
    write(path)
    copy = tmp_path / "killed" / path.name
    copy.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 0")  # pages reach the file before the transaction ends
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE half AS SELECT randomblob(50000) AS written")
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


def beside(path: Path) -> Path:
    """Return the rollback journal of a journal."""
    return path.with_name(f"{path.name}-journal")


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_every_reader_restores_it(reader: Callable[[Path], Any], killed: Path, tmp_path: Path) -> None:
    """A connection that may not write refuses it as readonly, and the figures of a whole run were not to be had."""
    whole = tmp_path / "run" / killed.name
    assert reader(killed) == reader(whole)
    assert not beside(killed).exists()
    assert read(killed, "node_visit") == read(whole, "node_visit") != []


def test_where_nothing_can_be_written_the_remedy_is_a_copy(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results on a read-only disk are whole after all."""
    readonly = partial(sqlite3.connect, f"{killed.as_uri()}?mode=ro", uri=True)
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: readonly())
    with pytest.raises(StorageError, match="was killed while it opened or closed it"):
        read(killed, "question")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda written: written + b"/etc/hosts" + MAGIC, id="another file's name"),
        pytest.param(lambda _: b"no header" + b"/etc/hosts" + MAGIC, id="another file's name alone"),
        pytest.param(
            lambda written: written[:SIZES_AT] + b"\x00\xff\xff\xff" + written[SIZES_AT + 4 :], id="a larger file"
        ),
    ],
)
def test_a_strangers_is_refused(change: Callable[[bytes], bytes], killed: Path) -> None:
    """SQLite deletes a file that a rollback journal names, and extends its own to any size."""
    beside(killed).write_bytes(change(beside(killed).read_bytes()))
    before = killed.read_bytes()
    with pytest.raises(UsageError, match="not of our journal"):
        read(killed, "question")
    assert killed.read_bytes() == before


@pytest.mark.parametrize("written", [b"", b"no journal", MAGIC])
def test_what_holds_nothing_changes_nothing(written: bytes, tmp_path: Path) -> None:
    """A process may be killed before it wrote any of it, or in the middle of its header."""
    path = tmp_path / "journal.sqlite"
    write(path)
    rows = read(path, "node_visit")
    beside(path).write_bytes(written)
    assert read(path, "node_visit") == rows != []
