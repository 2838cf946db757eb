"""The files of the raw log and their rows: writes one, deletes the oldest, and leaves files of others alone."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from exporter.gpu.readings import Status, Utilization
from exporter.gpu.replay import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exporter.gpu.latest import MemorySample

_NAME = re.compile(r"nvml_\d{8}T\d{6}_\d{2,}\.csv")
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
HEADER = ",".join((COLUMNS[0], "gpu", *COLUMNS[1:])) + "\n"


class RawLogFiles:
    """Writes to one file at a time. A method that fails leaves the previous file in use.

    Args:
        directory: the folder of the files; created if it is missing.
        kept: the number of files to keep, the current one included.
    """

    def __init__(self, directory: Path, wall: Callable[[], float], kept: int) -> None:
        self._directory = directory
        self._wall = wall
        self._kept = kept
        self._begun: list[Path] = []  # by this process, in order, whatever the clock says
        self._descriptor: int | None = None
        self.size = 0

    @property
    def is_ours(self) -> bool:
        """True while the file is in place and complete: not moved, truncated or deleted by another program."""
        if self._descriptor is None:
            return False
        try:
            here, there = os.fstat(self._descriptor), self._begun[-1].lstat()
        except OSError:
            return False
        return os.path.samestat(here, there) and here.st_size == self.size

    def begin(self) -> None:
        """Begin a new file; only then close the previous one and delete the oldest.

        Raises:
            OSError: it cannot be created, or its first line does not fit; then it is removed.
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
        """Write all of `rows` or none: after a partial write the file is truncated to its previous size.

        Raises:
            OSError: the rows are not written.
        """
        if self._descriptor is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        _write_all(self._descriptor, rows, self.size)
        self.size += len(rows)

    def close(self) -> None:
        """Close the file; ignore a failure, because it comes too late to act on."""
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
        raise AssertionError  # the count is endless

    def _delete_oldest(self) -> None:
        """Delete the files beyond `kept`: first those of earlier processes by timestamp, then our own in order."""
        self._begun = [path for path in self._begun if path.exists()]
        earlier = sorted({path for path in self._directory.iterdir() if _is_log(path)} - set(self._begun))
        for path in [*earlier, *self._begun[:-1]][: max(0, len(earlier) + len(self._begun) - self._kept)]:
            with suppress(OSError):  # the next file tries again
                path.unlink()


def _is_log(path: Path) -> bool:
    """Return whether a file has the name and the first line of a raw log: any other file belongs to someone else."""
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
    """Append `data` to a file of size `end`; on failure truncate the file to that size."""
    written = 0
    try:
        written = os.write(descriptor, data)
    finally:
        if written != len(data):
            os.ftruncate(descriptor, end)
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def encode_row(gpu: str, sample: MemorySample) -> str:
    """Return one line of the CSV; an unknown value is an empty cell."""
    utilization, status = sample.utilization or Utilization(), sample.status or Status()
    cells = (
        sample.ts_ms,
        gpu,
        sample.used_bytes,
        _scaled(utilization.utilization, 100),
        _scaled(utilization.memory_utilization, 100),
        _scaled(utilization.power_watts, 1000),
        _scaled(status.sm_clock_hertz, 1e-6),
        _scaled(status.temperature_celsius, 1),
    )
    return ",".join(map(str, cells)) + "\n"


def _scaled(value: float | None, factor: float) -> float | str:
    return "" if value is None else round(value * factor)
