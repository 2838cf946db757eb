"""The files of the raw log: one is written, the oldest are deleted, and what is not the log's own is left alone."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from exporter.gpu.rawlog_rows import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NAME = re.compile(r"nvml_\d{8}T\d{6}_\d{2,}\.csv")
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RawLogFiles:
    """Writes to one file at a time. Each method that fails leaves the file of before in use.

    Args:
        directory: where the files go; it is created where it is missing.
        wall: seconds since 1970, for file names.
        kept: files kept, the current one included.
    """

    def __init__(self, directory: Path, wall: Callable[[], float], kept: int) -> None:
        self._directory = directory
        self._wall = wall
        self._kept = kept
        self._begun: list[Path] = []  # by this process, in order, whatever the clock told
        self._descriptor: int | None = None
        self.size = 0

    @property
    def is_ours(self) -> bool:
        """True while the file is where it was begun and holds what was written: nobody moved, cut or deleted it."""
        if self._descriptor is None:
            return False
        try:
            here, there = os.fstat(self._descriptor), self._begun[-1].lstat()
        except OSError:
            return False
        return os.path.samestat(here, there) and here.st_size == self.size

    def begin(self) -> None:
        """Begin a new file, and only then give up the one before and delete the oldest.

        Raises:
            OSError: it cannot be created, or there is no room for its first line; then nothing is left of it.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor, path = self._create()
        try:
            _write_all(descriptor, HEADER.encode(), 0)
        except OSError:
            with suppress(OSError):
                os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self.close()
        self._descriptor, self.size = descriptor, len(HEADER)
        self._begun.append(path)
        self._delete_oldest()

    def append(self, rows: bytes) -> None:
        """Write all of `rows` or none: what a full disk took of them is cut off again, to be written whole later.

        Raises:
            OSError: they are not written.
        """
        if self._descriptor is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        _write_all(self._descriptor, rows, self.size)
        self.size += len(rows)

    def close(self) -> None:
        """Close the file; what a disk says to that comes too late to act on."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _create(self) -> tuple[int, Path]:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._wall()))
        for number in count():
            path = self._directory / f"nvml_{stamp}_{number:02d}.csv"
            with suppress(FileExistsError):
                return os.open(path, _NEW, 0o600), path
        raise AssertionError  # the count has no end

    def _delete_oldest(self) -> None:
        """Delete what goes beyond `kept`: files of earlier processes by their stamp, then our own in their order."""
        self._begun = [path for path in self._begun if path.exists()]
        earlier = sorted({path for path in self._directory.iterdir() if _is_log(path)} - set(self._begun))
        for path in [*earlier, *self._begun[:-1]][: max(0, len(earlier) + len(self._begun) - self._kept)]:
            with suppress(OSError):  # it is tried again with the next file
                path.unlink()


def _is_log(path: Path) -> bool:
    """Return whether a file has a raw log's name and its first line: anything else is somebody's own."""
    if not _NAME.fullmatch(path.name):
        return False
    try:
        descriptor = os.open(path, _LOOK)
    except OSError:
        return False
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return is_file and os.read(descriptor, len(HEADER)) == HEADER.encode()
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes, end: int) -> None:
    """Write `data` at `end`, the end of the file; on failure cut off what was written of it."""
    written = 0
    try:
        written = os.write(descriptor, data)
    finally:
        if written != len(data):
            os.ftruncate(descriptor, end)
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
