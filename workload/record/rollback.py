"""Restores a journal whose process was killed while it was opened or closed.

SQLite changes to its log, and back to a single file, under a rollback journal beside the file. A connection that may
not write refuses such a file, so it is restored before it is read. SQLite leaves alone what a living process guards.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from os import SEEK_END
from typing import TYPE_CHECKING

from workload.errors import StorageError, UsageError
from workload.record.integrity import limit_costs

if TYPE_CHECKING:
    from pathlib import Path

# "The Rollback Journal", file format of SQLite, sqlite.org: the header's magic number and, from its 17th byte on, the
# file's number of pages before, the size of a sector and of a page. A name of another journal ends in the same magic.
MAGIC = bytes.fromhex("d9d505f920a163d7")
SIZES, SIZES_AT = struct.Struct(">3I"), 16


def restore(path: Path) -> None:
    """Roll back what a killed process left half written; without a rollback journal, do nothing.

    Raises:
        UsageError: the rollback journal is not one of ours: it names other files, or would make the file larger.
        StorageError: the folder cannot be written.
        sqlite3.DatabaseError: the file is damaged.
    """
    beside = path.with_name(f"{path.name}-journal")
    if not (path.is_file() and beside.is_file()):
        return
    try:
        with beside.open("rb") as file:
            header = file.read(SIZES_AT + SIZES.size)
            file.seek(max(len(MAGIC), file.seek(0, SEEK_END) - len(MAGIC)))
            end = file.read()
    except FileNotFoundError:
        return  # a living process has just removed it
    is_whole = header.startswith(MAGIC) and len(header) == SIZES_AT + SIZES.size
    pages, _, page_bytes = SIZES.unpack_from(header, SIZES_AT) if is_whole else (0, 0, 0)
    if end == MAGIC or pages * page_bytes > path.stat().st_size:
        raise UsageError(f"{beside} is not of our journal.", "Choose another run.")
    try:
        with closing(sqlite3.connect(path)) as connection:
            limit_costs(connection, path)
            connection.execute("SELECT name FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if (error.sqlite_errorcode & 0xFF) not in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
            raise
        raise StorageError(
            f"The process that wrote {path} was killed while it opened or closed it, and here it cannot be restored.",
            "Copy its folder to where you may write.",
        ) from error
