"""A run's journal: every question, node visit and LLM call, on disk before the question is acknowledged.

Texts of prompts and replies are in it only with `--record-prompts`; otherwise it has token counts and block hashes. It
is one SQLite file in WAL mode, with a checksum on each row (workload/record/integrity.py). A writer thread owns the
connection, so a question waits for the disk only at its own acknowledgement; rows that wait are committed together.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from workload.errors import StorageError, UsageError
from workload.files.atomic_file import OWNER_ONLY, lock_folder, make_folder
from workload.record.integrity import (
    add_checksums,
    check,
    columns,
    explained,
    foreign,
    is_blank,
    keep_checksums,
    limit_costs,
)
from workload.record.rollback import restore
from workload.record.schema import LATER, SCHEMA, SCHEMA_VERSION, TABLES, pristine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# What SQLite and its driver raise for a value that they cannot store, however much space the disk has.
UNFIT = (
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
    *(ValueError, OverflowError),
)
# The longest that a row waits to be written; an acknowledgement does not wait.
LINGER_SECONDS = 0.1
# Rows are written once and not read again, so a small page cache is enough.
WRITING = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -256;"


class Journal:
    """The writer of a run's journal.

    Args:
        path: the SQLite file; it is created with mode 0600, or opened again to resume.
        config: the run's settings; resuming with other settings is refused.

    Raises:
        StorageError: the file cannot be created or written.
        UsageError: the file is not a journal, is damaged, belongs to another schema or configuration, or another
            process is writing to its folder.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | Future[None] | None] = queue.SimpleQueue()
        self._wanted = threading.Event()
        self._counting = threading.Lock()
        self._failure: StorageError | None = None
        self._folder = _folder_of(path)
        try:
            self._connection = _open(path, config)
        except BaseException:
            os.close(self._folder)
            raise
        self._last_ids = {
            table: self._connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("question", "llm_call")
        }
        self._thread = threading.Thread(target=self._write, name="journal")
        self._thread.start()

    @property
    def last_ids(self) -> Mapping[str, int]:
        """The last row ids of `question` and of `llm_call`."""
        return dict(self._last_ids)

    def new_id(self, table: str) -> int:
        """Return the next row id of `question` or `llm_call`."""
        with self._counting:
            self._last_ids[table] += 1
            return int(self._last_ids[table])

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Queue a row; returns at once."""
        columns = ", ".join(row)
        marks = ", ".join("?" * len(row))
        self._queue.put((f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values())))  # noqa: S608

    def close_interrupted(self) -> None:
        """Mark the questions that were in flight when an earlier process died: sent, but never acknowledged."""
        self._queue.put(("UPDATE question SET outcome = 'cancelled', reason = 'interrupted' WHERE outcome IS NULL", ()))

    def update(self, table: str, row_id: int, row: Mapping[str, Any]) -> None:
        """Queue a change of one row; returns at once."""
        assignments = ", ".join(f"{column} = ?" for column in row)
        self._queue.put((f"UPDATE {table} SET {assignments} WHERE id = ?", (*row.values(), row_id)))  # noqa: S608

    async def acknowledge(self) -> None:
        """Return once everything queued so far is on disk.

        Raises:
            StorageError: it could not be written; nothing since the last acknowledgement is certain.
        """
        await asyncio.wrap_future(self._mark())

    def close(self) -> None:
        """Write the queued rows, fold the log into the file and close it."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._wanted.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def _mark(self) -> Future[None]:
        mark: Future[None] = Future()
        self._queue.put(mark)
        self._wanted.set()
        return mark

    def _write(self) -> None:
        going_on = True
        while going_on:
            # Rows are committed in batches: single commits would cost the event loop more than all other metering.
            self._wanted.wait(LINGER_SECONDS)
            self._wanted.clear()
            batch = []
            while not self._queue.empty():
                batch.append(self._queue.get())
            going_on = None not in batch
            try:
                for item in batch:
                    if isinstance(item, tuple):
                        self._connection.execute(*item)
                self._connection.commit()
            except UNFIT as error:
                self._fail(
                    f"cannot store a value: {error}",
                    "The disk is not at fault: please report this, then resume the run.",
                )
            except sqlite3.Error as error:
                self._fail(f"cannot be written: {error}", "Free disk space, then resume the run.")
            for item in batch:
                # the future of a worker that was cancelled meanwhile takes no result
                if isinstance(item, Future) and item.set_running_or_notify_cancel():
                    if self._failure:
                        item.set_exception(self._failure)
                    else:
                        item.set_result(None)
        self._fold()
        self._connection.close()
        os.close(self._folder)

    def _fail(self, why: str, remedy: str) -> None:
        self._failure = self._failure or StorageError(f"The journal {self.path} {why}.", remedy)

    def _fold(self) -> None:
        """Leave one file behind instead of three.

        After a failed write the log stays, because it has the safe rows. It also stays while another process reads it.
        """
        if not self._failure:
            self._connection.execute("PRAGMA busy_timeout = 0")
            with suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA journal_mode = DELETE")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _folder_of(path: Path) -> int:
    """Lock a journal's folder for this process, creating it and an empty file; return the lock's descriptor."""
    try:
        make_folder(path.parent)
        folder = lock_folder(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, OWNER_ONLY))
    except OSError as error:
        raise StorageError(
            f"The journal {path} cannot be created: {error.strerror}.", "Choose another --results."
        ) from error
    return folder


def _open(path: Path, config: Mapping[str, Any]) -> sqlite3.Connection:
    """Create the journal, or open an existing one after checking that it is ours, undamaged, and of this run."""
    wanted = json.dumps(config, sort_keys=True, default=str)
    with explained(path, "Start a new run."), ExitStack() as failed:
        connection = sqlite3.connect(path, check_same_thread=False)
        failed.callback(connection.close)
        limit_costs(connection, path)
        if is_blank(connection, path):
            # One transaction: a process that is killed here leaves a file without tables, which counts as new.
            connection.executescript(f"{WRITING} BEGIN; {SCHEMA}")
            add_checksums(connection)
            keep_checksums(connection)
            meta = {"schema_version": str(SCHEMA_VERSION), "config": wanted}
            connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", meta.items())
            connection.commit()
        else:
            check(connection, path, ("meta", *TABLES), pristine(), SCHEMA_VERSION)
            if (found := dict(connection.execute("SELECT key, value FROM meta")).get("config")) != wanted:
                raise UsageError(
                    f"The journal {path} was written with another config: {found}, not {wanted}.", "Start a new run."
                )
            connection.executescript(WRITING)
            keep_checksums(connection)
        connection.set_progress_handler(None, 0)  # the file is checked; writing needs no limit
        failed.pop_all()
        return connection


def read(path: Path, table: str) -> list[dict[str, Any]]:
    """Return all rows of a table of a finished or running journal, oldest first; see `read_tables`."""
    return read_tables(path, (table,))[table]


def read_tables(path: Path, tables: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of some tables of a finished or running journal, oldest first, as they were at one instant.

    Raises:
        UsageError: there is no such journal or table, it is of another schema, or it is damaged.
    """
    if unknown := set(tables) - (set(TABLES) if path.exists() else set()):
        names = ", ".join(map(repr, sorted(unknown)))
        raise UsageError(f"There is no table {names} in a journal at {path}.", "Check the run's name.")
    with opened(path, "Choose another run.") as connection:
        # One transaction, so that the rows read are the rows checked, even while a run writes.
        connection.execute("BEGIN")
        if is_blank(connection, path):
            return {table: [] for table in tables}
        present = [table for table in tables if table not in LATER or _has(connection, table)]
        check(connection, path, ("meta", *present), pristine(), SCHEMA_VERSION)
        return {table: _rows(connection, table) if table in present else [] for table in tables}


@contextmanager
def opened(path: Path, remedy: str) -> Iterator[sqlite3.Connection]:
    """Yield a read-only connection to a journal, safe while a run writes, with limited costs.

    What a killed run left half written is rolled back first.

    Raises:
        UsageError: it is not a journal, or it is damaged.
        StorageError: its disk failed.
    """
    with explained(path, remedy):
        restore(path)
    with (
        explained(path, remedy),
        closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection,
    ):
        limit_costs(connection, path)
        yield connection


def refuse_foreign_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a journal by its tables alone, which is cheap; `read_tables` checks all of it.

    Raises:
        UsageError: it has other tables than ours.
    """
    if damage := foreign(connection, pristine()):
        raise UsageError(f"The journal {path} is damaged: {damage}.", "Check the run's folder.")


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    names = columns(connection, table)
    rows = connection.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid")  # noqa: S608
    return [dict(zip(names, row, strict=True)) for row in rows]
