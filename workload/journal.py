"""A run's record on disk: every question, node visit and LLM call, durable before a question is acknowledged.

Texts of prompts and replies are kept only on request (`--record-prompts`); without it there are token counts and block
hashes. One SQLite file in WAL mode, with a checksum on each row (workload/integrity.py). A writer thread owns the
connection, so no question ever waits for the disk until its own acknowledgement; what piles up meanwhile is committed
together.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from workload.durable import OWNER_ONLY, hold
from workload.errors import StorageError, UsageError
from workload.integrity import add_checksums, check, columns, explained, is_blank, keep_checksums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE question (
  id INTEGER PRIMARY KEY, arm TEXT NOT NULL, block INTEGER NOT NULL, phase TEXT NOT NULL, segment INTEGER NOT NULL,
  question_id TEXT NOT NULL, type TEXT NOT NULL, attempt INTEGER NOT NULL, worker TEXT NOT NULL,
  intended_at REAL NOT NULL, started_at REAL NOT NULL, duration_seconds REAL, outcome TEXT, reason TEXT,
  termination TEXT, hops INTEGER, digest TEXT, answer TEXT, trajectory TEXT,
  answer_em REAL, answer_f1 REAL, facts_em REAL, facts_f1 REAL, joint_f1 REAL) STRICT;
CREATE TABLE node_visit (
  question INTEGER NOT NULL REFERENCES question(id), node TEXT NOT NULL, hop INTEGER NOT NULL,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL, outcome TEXT NOT NULL) STRICT;
CREATE TABLE stage (
  question INTEGER NOT NULL REFERENCES question(id), stage TEXT NOT NULL, hop INTEGER NOT NULL,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL) STRICT;
CREATE TABLE prefetch (
  question INTEGER NOT NULL REFERENCES question(id), hop INTEGER NOT NULL, outcome TEXT NOT NULL,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL, waited_seconds REAL NOT NULL) STRICT;
CREATE TABLE llm_call (
  id INTEGER PRIMARY KEY, question INTEGER NOT NULL REFERENCES question(id), node TEXT NOT NULL, hop INTEGER NOT NULL,
  retry INTEGER NOT NULL DEFAULT 0,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL, ttft_seconds REAL, outcome TEXT NOT NULL, reason TEXT,
  prompt_tokens INTEGER, cached_tokens INTEGER, reusable_tokens INTEGER, completion_tokens INTEGER,
  finish_reason TEXT, block_hashes BLOB) STRICT;
CREATE TABLE call_text (
  call INTEGER PRIMARY KEY REFERENCES llm_call(id), messages TEXT NOT NULL, reply TEXT NOT NULL,
  prompt_ids BLOB NOT NULL, output_ids BLOB NOT NULL) STRICT;
CREATE TABLE segment (
  id INTEGER PRIMARY KEY, started_at REAL NOT NULL, ended_at REAL, first_question INTEGER NOT NULL,
  first_call INTEGER NOT NULL, dropped INTEGER NOT NULL, paused INTEGER NOT NULL, summary TEXT) STRICT;
CREATE TABLE sample (
  at REAL NOT NULL, segment INTEGER NOT NULL, in_flight INTEGER NOT NULL, level INTEGER NOT NULL,
  is_held INTEGER NOT NULL, runner_bytes INTEGER, engine_bytes INTEGER) STRICT;
CREATE TABLE action (
  at REAL NOT NULL, action TEXT NOT NULL, alert TEXT NOT NULL, status TEXT NOT NULL, fingerprint TEXT, starts_at TEXT,
  detail TEXT NOT NULL) STRICT;
"""
TABLES = ("question", "node_visit", "stage", "prefetch", "llm_call", "call_text", "segment", "sample", "action")
# What SQLite and its driver raise for a value that is none of theirs, whatever room the disk has.
UNFIT = (
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
    *(ValueError, OverflowError),
)
# How long a row may wait to be written; an acknowledgement does not wait.
LINGER_SECONDS = 0.1
# Rows are written once and not read again: of SQLite's usual 2 MB of pages this needs little.
WRITING = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -256;"


class Journal:
    """The writing side of a run's record.

    Args:
        path: the SQLite file; it is created with mode 0600, or opened again to go on.
        config: what the run was asked to do; going on with another configuration is refused.

    Raises:
        StorageError: the file cannot be created or written.
        UsageError: the file is not a journal, is damaged, belongs to another schema or configuration, or another
            process is writing to its folder.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | Future[None] | None] = queue.SimpleQueue()
        self._wanted = threading.Event()
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
        """The last row ids given out, of `question` and of `llm_call`."""
        return dict(self._last_ids)

    def new_id(self, table: str) -> int:
        """Return the next row id of `question` or `llm_call`; call it from one thread only."""
        self._last_ids[table] += 1
        return int(self._last_ids[table])

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Queue a row; returns at once."""
        columns = ", ".join(row)
        marks = ", ".join("?" * len(row))
        self._queue.put((f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values())))  # noqa: S608

    def close_interrupted(self) -> None:
        """Mark what was in flight when an earlier process died: sent, but never acknowledged."""
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
        """Write what is queued, fold the log into the file and close it."""
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
            # Rows wait for company: a commit each would take more of the event loop's time than all other metering.
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
                    f"cannot hold a value: {error}", "No disk is at fault: please report it, then resume the run."
                )
            except sqlite3.Error as error:
                self._fail(f"cannot be written: {error}", "Free disk space, then resume the run.")
            for item in batch:
                # a mark whose worker was cancelled meanwhile takes no result
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

        After a failed write the log stays, for it holds what is safe; so it does while somebody reads the journal.
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
    """Take a journal's folder for this process alone, making it and an empty file; return its descriptor."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = hold(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, OWNER_ONLY))
    except OSError as error:
        raise StorageError(
            f"The journal {path} cannot be created: {error.strerror}.", "Choose another --results."
        ) from error
    return folder


def _open(path: Path, config: Mapping[str, Any]) -> sqlite3.Connection:
    """Create the journal, or open the one that is there after checking that it is ours, whole, and as configured."""
    wanted = json.dumps(config, sort_keys=True, default=str)
    with explained(path, "Start a new run."), ExitStack() as failed:
        connection = sqlite3.connect(path, check_same_thread=False)
        failed.callback(connection.close)
        if is_blank(connection, path):
            # One transaction: a process that is killed here leaves a file without tables, which is new again.
            connection.executescript(f"{WRITING} BEGIN; {SCHEMA}")
            add_checksums(connection)
            keep_checksums(connection)
            meta = {"schema_version": str(SCHEMA_VERSION), "config": wanted}
            connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", meta.items())
            connection.commit()
        else:
            check(connection, path, ("meta", *TABLES), _pristine(), SCHEMA_VERSION)
            if (found := dict(connection.execute("SELECT key, value FROM meta")).get("config")) != wanted:
                raise UsageError(
                    f"The journal {path} was written with another config: {found}, not {wanted}.", "Start a new run."
                )
            connection.executescript(WRITING)
            keep_checksums(connection)
        failed.pop_all()
        return connection


@cache
def _pristine() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(SCHEMA)
    add_checksums(connection)
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
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        with explained(path, "Choose another run."):
            # One transaction: what is checked is what is read, while a run goes on.
            connection.execute("BEGIN")
            if is_blank(connection, path):
                return {table: [] for table in tables}
            check(connection, path, ("meta", *tables), _pristine(), SCHEMA_VERSION)
            return {table: _rows(connection, table) for table in tables}
    finally:
        connection.close()


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    names = columns(connection, table)
    rows = connection.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid")  # noqa: S608
    return [dict(zip(names, row, strict=True)) for row in rows]
