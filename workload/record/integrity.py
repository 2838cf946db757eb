"""Checks that a journal is as it was written: sound pages, our tables, the checksum of every row.

SQLite itself detects a damaged structure, but not a flipped bit in a number or a text. It also silently drops the
commits behind a damaged part of its write-ahead log, so the log's own checksums are checked here.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from itertools import count, pairwise
from typing import TYPE_CHECKING

import numpy as np

from workload.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CHECKSUM = "checksum"
# The low bytes of SQLite's error codes for a fault of the disk, not of the file's content.
DISK_ERRORS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
# Sizes in bytes, from "Database File Format", 4.1 and 4.2, sqlite.org.
LOG_HEADER, FRAME_HEADER = 32, 24
MAX_LOG_BYTES, MAX_VALUE_BYTES = 2**30, 2**26
# Steps of SQLite's virtual machine: reading a journal once takes less than one step per byte.
FREE_STEPS, STEPS_A_BYTE, STEPS_A_ROUND = 10**7, 50, 10**4


def row_checksum(*values: object) -> int:
    """Return 64 bits of BLAKE2b over a row's id and values, as SQLite stores an integer."""
    return int.from_bytes(blake2b(repr(values).encode(), digest_size=8).digest(), signed=True)


def add_checksums(connection: sqlite3.Connection) -> None:
    """Add a column for the rows' checksums to every table of a new journal."""
    for table in _tables(connection):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {CHECKSUM} INTEGER")


def keep_checksums(connection: sqlite3.Connection) -> None:
    """Make this connection write a checksum for each row that it inserts or changes.

    The triggers belong to the connection and are not in the file, so that any other program can still read it.
    """
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
    for table in _tables(connection):
        names = columns(connection, table)
        values = ", ".join(f"NEW.{name}" for name in ("rowid", *names))
        for moment in ("INSERT", f"UPDATE OF {', '.join(names)}"):
            connection.execute(
                f"CREATE TEMP TRIGGER {table}_{moment.split()[0].lower()} AFTER {moment} ON main.{table} BEGIN "  # noqa: S608
                f"UPDATE {table} SET {CHECKSUM} = row_checksum({values}) WHERE rowid = NEW.rowid; END"
            )


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return a table's columns without the checksum."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != CHECKSUM]


def limit_costs(connection: sqlite3.Connection, path: Path) -> None:
    """Limit the steps of reading a journal by the size of its files, and the memory by a constant.

    A hostile file may have a view with endless rows, or pages that are children of each other.
    """
    size = sum(each.stat().st_size for each in (path, _log_of(path)) if each.exists())
    rounds, most = count(), (FREE_STEPS + STEPS_A_BYTE * size) // STEPS_A_ROUND
    connection.set_progress_handler(lambda: next(rounds) > most, STEPS_A_ROUND)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")


def foreign(connection: sqlite3.Connection, pristine: sqlite3.Connection) -> str | None:
    """Return how the tables of a journal differ from those of a new one, or None; no row is read.

    A table of a new journal may be missing. A view, a trigger or a virtual table is never ours.
    """
    known = set(_definitions(pristine))
    is_ours = set(_definitions(connection, len(known) + 1)) <= known
    return None if is_ours else "its tables are not as they were made"


def structural_damage(connection: sqlite3.Connection, pristine: sqlite3.Connection) -> str | None:
    """Return the damage of a journal's tables, else of its pages, or None."""
    if damage := foreign(connection, pristine):
        return damage
    verdict = " ".join(str(connection.execute("PRAGMA quick_check(1)").fetchone()[0]).split())
    return None if verdict == "ok" else verdict


def damaged_row(connection: sqlite3.Connection, table: str) -> int | None:
    """Return the id of the first row whose checksum does not match its values, or None."""
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
    names = ", ".join(("rowid", *columns(connection, table)))
    found = connection.execute(
        f"SELECT rowid FROM {table} WHERE {CHECKSUM} IS NOT row_checksum({names}) LIMIT 1"  # noqa: S608
    ).fetchone()
    return None if found is None else int(found[0])


@contextmanager
def explained(path: Path, remedy: str) -> Iterator[None]:
    """Turn SQLite's failures into one line that says whether the disk or the file is at fault."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        what = " ".join(str(error).split())  # SQLite may quote a damaged file's own text
        if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in DISK_ERRORS:
            raise StorageError(f"The journal {path} cannot be written: {what}.", "Check its disk.") from error
        raise UsageError(f"{path} is not a journal, or it is damaged: {what}.", remedy) from error
    except (MemoryError, ValueError) as error:  # a damaged length, or text that is not UTF-8, also in SQLite's errors
        raise UsageError(f"{path} is not a journal, or it is damaged: {type(error).__name__}.", remedy) from error


def check(
    connection: sqlite3.Connection, path: Path, tables: Sequence[str], pristine: sqlite3.Connection, schema: int
) -> None:
    """Refuse a journal of another schema, with a damaged structure, or with rows that differ from what was written.

    The log is checked first, because SQLite reads the rest through it; then the schema, because a journal of another
    release is not damaged, but only if the table with its version is ours.

    `tables` are those whose rows are checked; `pristine` is a new journal, in memory.

    Raises:
        UsageError: with the reason.
    """
    if lost := lost_commits(path):
        raise UsageError(
            f"The journal {path} is damaged: {lost} commits behind a bad part of its log are lost.", "Start a new run."
        )
    version = None
    if _definitions(connection, 1, "meta") == _definitions(pristine, 1, "meta"):
        version = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if version is not None and version[0] != str(schema):
        raise UsageError(
            f"The journal {path} was written with another schema version: {version[0]}, not {schema}.",
            "Use the release that wrote it, or start a new run.",
        )
    damage = structural_damage(connection, pristine)
    for table in tables if damage is None else ():
        if (row := damaged_row(connection, table)) is not None:
            damage = damage or f"row {row} of {table} is not as it was written"
    if damage:
        raise UsageError(f"The journal {path} is damaged: {damage}.", "Start a new run.")


def is_blank(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether an open journal is empty because its process was killed before it wrote anything.

    A larger file without tables is one whose first page is damaged.
    """
    is_larger = path.stat().st_size > connection.execute("PRAGMA page_size").fetchone()[0]
    is_empty = connection.execute("SELECT name FROM sqlite_master").fetchone() is None
    return is_empty and not is_larger and not lost_commits(path)


def lost_commits(path: Path) -> int:
    """Return how many commits in an open journal's write-ahead log SQLite does not see.

    SQLite reads the log up to the first frame with a wrong checksum. After a crash that is the torn tail, which has no
    commit. A commit behind that frame was once acknowledged, so the log was damaged later.

    The checksums are computed here as SQLite does. The log's index (`-shm`) is not read: closing a file drops the locks
    of this process on it, and another process could then rebuild the index while ours uses it.
    """
    log = _log_of(path)
    lost, salts = _lost_commits(log)
    if lost and _lost_commits(log)[1] != salts:
        return 0  # the log was restarted while it was read, so all its commits are in the file
    return lost


def _lost_commits(log: Path) -> tuple[int, bytes]:
    """Return the lost commits of a log, and its salts."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        raise ValueError("the log is larger than any of ours")
    content = log.read_bytes() if log.exists() else b""
    header, salts = content[:LOG_HEADER], content[16:24]
    if len(content) <= LOG_HEADER:
        return 0, salts
    order = ">u4" if header[3] & 1 else "<u4"
    sums = _sums(np.frombuffer(header[:24], order), np.zeros(2, np.uint32))
    page_size = struct.unpack_from(">I", header, 8)[0]
    starts = range(LOG_HEADER, len(content) + 1, FRAME_HEADER + page_size) if page_size else range(0)
    frames = [content[start:end] for start, end in pairwise(starts) if end <= len(content)]
    if sums.tolist() != list(struct.unpack_from(">2I", header, 24)):
        return sum(_is_commit(frame) for frame in frames) or 1, salts
    seen = 0
    for frame in frames:
        sums = _sums(np.frombuffer(frame[:8] + frame[FRAME_HEADER:], order), sums)
        if frame[8:16] != salts or sums.tolist() != list(struct.unpack_from(">2I", frame, 16)):
            break
        seen += 1
    return sum(_is_commit(frame) and frame[8:16] == salts for frame in frames[seen:]), salts


def _is_commit(frame: bytes) -> bool:
    """Return whether a frame ends a transaction: its header then has the size of the file."""
    return bool(struct.unpack_from(">I", frame, 4)[0])


def _sums(words: NDArray[np.uint32], before: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the two running checksums of the log after an even number of words, given those before, modulo 2^32.

    For each pair: s0 += x0 + s1, s1 += x1 + s0 ("WAL-mode File Format", 2.3). This is linear, so all pairs are summed
    at once, each weighted by a power of the matrix [[1, 1], [1, 2]].
    """
    pairs = words.astype(np.uint32).reshape(-1, 2)
    inputs = np.stack([pairs[:, 0], pairs[:, 0] + pairs[:, 1]], axis=1)
    powers = _powers(len(pairs))
    after = np.einsum("nij,nj->i", powers[-2::-1], inputs, dtype=np.uint32)
    return np.asarray(after + powers[-1] @ before, dtype=np.uint32)


@cache
def _powers(count: int) -> NDArray[np.uint32]:
    """Return the powers 0 to `count` of [[1, 1], [1, 2]] modulo 2^32, shape (count + 1, 2, 2)."""
    step, found = np.array([[1, 1], [1, 2]], np.uint32), [np.eye(2, dtype=np.uint32)]
    for _ in range(count):
        found.append(found[-1] @ step)
    return np.stack(found)


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def _definitions(connection: sqlite3.Connection, most: int = -1, name: str | None = None) -> list[tuple[str, ...]]:
    """Return the definitions of at most `most` tables, views and triggers: all, or those of one name."""
    return connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE ?1 IS NULL OR name = ?1 ORDER BY name LIMIT ?2",
        (name, most),
    ).fetchall()


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
