"""Tells whether a journal holds what was written to it: sound pages, tables as they were made, every row's checksum.

SQLite finds a damaged structure by itself, but not a flipped bit in a number or a text, and it drops what follows a
damaged part of its write-ahead log as if it had never been written.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import contextmanager
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

from workload.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CHECKSUM = "checksum"
# The low byte of SQLite's error codes that tell of the disk and not of the file's content.
DISK_ERRORS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
# Offsets and sizes in bytes, from "Database File Format", 4.1 and 4.2, and "WAL-mode File Format", 2.1, sqlite.org.
LOG_HEADER, FRAME_HEADER = 32, 24
VALID_FRAMES_AT, LOG_SALTS_AT = 16, 32


def row_checksum(*values: object) -> int:
    """Return 64 bits of BLAKE2b over a row's id and values, as SQLite stores an integer."""
    return int.from_bytes(blake2b(repr(values).encode(), digest_size=8).digest(), signed=True)


def add_checksums(connection: sqlite3.Connection) -> None:
    """Give every table of a new journal a column for its rows' checksums."""
    for table in _tables(connection):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {CHECKSUM} INTEGER")


def keep_checksums(connection: sqlite3.Connection) -> None:
    """Have each row that this connection writes or changes get its checksum.

    The triggers are the connection's own: they are not in the file, which any other program can still read.
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


def structural_damage(connection: sqlite3.Connection, pristine: sqlite3.Connection) -> str | None:
    """Return what is wrong with the pages of a journal, or with its tables beside those of a new one.

    None if nothing is. A table that a new journal has may be missing; what is there is as it was made.
    """
    if (verdict := str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])) != "ok":
        return " ".join(verdict.split())
    if not set(_definitions(connection)) <= set(_definitions(pristine)):
        return "its tables are not as they were made"
    return None


def damaged_row(connection: sqlite3.Connection, table: str) -> int | None:
    """Return the id of the first row whose checksum is not that of its values; None if there is none."""
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
    names = ", ".join(("rowid", *columns(connection, table)))
    found = connection.execute(
        f"SELECT rowid FROM {table} WHERE {CHECKSUM} IS NOT row_checksum({names}) LIMIT 1"  # noqa: S608
    ).fetchone()
    return None if found is None else int(found[0])


@contextmanager
def explained(path: Path, remedy: str) -> Iterator[None]:
    """Say in one line what SQLite could not do with a journal, and whether that is the disk's fault or the file's."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        what = " ".join(str(error).split())  # SQLite may quote a damaged file's own text
        if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in DISK_ERRORS:
            raise StorageError(f"The journal {path} cannot be written: {what}.", "Look at its disk.") from error
        raise UsageError(f"{path} is not a journal, or it is damaged: {what}.", remedy) from error
    except (MemoryError, ValueError) as error:  # a damaged length, or words that are no UTF-8, also in SQLite's errors
        raise UsageError(f"{path} is not a journal, or it is damaged: {type(error).__name__}.", remedy) from error


def check(
    connection: sqlite3.Connection, path: Path, tables: Sequence[str], pristine: sqlite3.Connection, schema: int
) -> None:
    """Refuse a journal of another schema, one whose structure is damaged, and rows that are not as they were written.

    The log goes first, for the rest is told by what SQLite has read of it; then the schema, for a journal of another
    release is not damaged.

    Args:
        connection: an open journal.
        path: its file.
        tables: whose rows are to be checked.
        pristine: a new journal, in memory.
        schema: the version of the schema that this release reads.

    Raises:
        UsageError: with the reason.
    """
    if lost := lost_commits(path):
        raise UsageError(
            f"The journal {path} is damaged: {lost} commits behind a bad part of its log are lost.", "Start a new run."
        )
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


def lost_commits(path: Path) -> int:
    """Return how many commits of an open journal's write-ahead log SQLite does not see.

    SQLite reads the log up to the first frame whose checksum is wrong. After a crash that is the torn tail, which holds
    no commit; a commit that lies behind it was acknowledged once, and the log was damaged since.
    """
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    if not log.exists() or not index.exists():
        return 0
    content = log.read_bytes()  # before the index, which then has seen at least what is in it
    with index.open("rb") as stream:
        known = stream.read(LOG_SALTS_AT + 8)
    if len(content) <= LOG_HEADER:
        return 0
    page_size, salts = struct.unpack_from(">I", content, 8)[0], content[16:24]
    seen = struct.unpack_from("=I", known, VALID_FRAMES_AT)[0]
    starts = range(LOG_HEADER, len(content) + 1, FRAME_HEADER + page_size) if page_size else range(0)
    frames = [content[start : start + 16] for start, end in pairwise(starts) if end <= len(content)]
    if not _is_sound(content[:LOG_HEADER]):
        return sum(struct.unpack_from(">I", frame, 4)[0] > 0 for frame in frames) or 1
    if known[LOG_SALTS_AT:] != salts:
        return 0  # the log was begun anew between our two looks at it: all that was in it is in the file
    return sum(struct.unpack_from(">I", frame, 4)[0] > 0 and frame[8:16] == salts for frame in frames[seen:])


def _is_sound(header: bytes) -> bool:
    """Return whether the header of a write-ahead log carries the checksum of its first 24 bytes."""
    order = ">" if header[3] & 1 else "<"
    words = struct.unpack(f"{order}6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) % 2**32
        second = (second + odd + first) % 2**32
    return struct.unpack(">2I", header[24:32]) == (first, second)


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def _definitions(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
