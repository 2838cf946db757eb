"""Tells whether a journal holds what was written to it: sound pages, tables as they were made, every row's checksum.

SQLite finds a damaged structure by itself, but not a flipped bit in a number or a text, and it drops what follows a
damaged part of its write-ahead log as if it had never been written.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

CHECKSUM = "checksum"
# Offsets and sizes in bytes, from "Database File Format", 4.1 and 4.2, and "WAL-mode File Format", 2.1, sqlite.org.
LOG_HEADER, FRAME_HEADER = 32, 24
VALID_FRAMES_AT = 16


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


def structural_damage(connection: sqlite3.Connection, path: Path, pristine: sqlite3.Connection) -> str | None:
    """Return what is wrong with the pages, the log or the tables; None if nothing is.

    Args:
        connection: an open journal.
        path: its file.
        pristine: a new journal, in memory.
    """
    if (verdict := str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])) != "ok":
        return " ".join(verdict.split())
    if lost := lost_commits(path):
        return f"{lost} commits behind a damaged part of its write-ahead log are lost"
    if _definitions(connection) != _definitions(pristine):
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


def lost_commits(path: Path) -> int:
    """Return how many commits of an open journal's write-ahead log SQLite does not see.

    SQLite reads the log up to the first frame whose checksum is wrong. After a crash that is the torn tail, which holds
    no commit; a commit that lies behind it was acknowledged once, and the log was damaged since.
    """
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    if not log.exists() or not index.exists():
        return 0
    content = log.read_bytes()
    with index.open("rb") as stream:
        seen = struct.unpack_from("=I", stream.read(VALID_FRAMES_AT + 4), VALID_FRAMES_AT)[0]
    if len(content) <= LOG_HEADER:
        return 0
    page_size, salts = struct.unpack_from(">I", content, 8)[0], content[16:24]
    starts = range(LOG_HEADER, len(content) + 1, FRAME_HEADER + page_size) if page_size else range(0)
    frames = [content[start : start + 16] for start, end in pairwise(starts) if end <= len(content)]
    if not _is_sound(content[:LOG_HEADER]):
        return sum(struct.unpack_from(">I", frame, 4)[0] > 0 for frame in frames) or 1
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
