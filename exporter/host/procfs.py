"""Reads processes from /proc: one small file per process, where psutil reads four and walks all of them again."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_BYTES = 64 * 1024  # a command line can be megabytes long; its beginning names the program
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process; `started` (ticks since boot) distinguishes it from a later one with the same `pid`.

    `cpu_seconds` includes children that have ended and been waited for. `has_ended` is true of a zombie.
    """

    pid: int
    parent: int
    started: int
    cpu_seconds: float
    resident_bytes: int
    has_ended: bool

    @property
    def identity(self) -> tuple[int, int]:
        """Return what is unique to this process since boot."""
        return self.pid, self.started


def read_process(pid: int) -> Process | None:
    """Return a process, None if it does not exist or is not visible."""
    with suppress(OSError, ValueError, IndexError):
        stat = Path(psutil.PROCFS_PATH, str(pid), "stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may contain anything, even brackets
        return Process(
            pid=pid,
            parent=int(fields[1]),
            started=int(fields[19]),
            cpu_seconds=sum(map(int, fields[11:15])) / _TICKS,
            resident_bytes=int(fields[21]) * _PAGE_BYTES,
            has_ended=fields[0] in {b"Z", b"X"},
        )
    return None


def read_command_lines() -> Iterator[tuple[int, list[str]]]:
    """Yield id and command line, in words, of every process that has one."""
    for pid in pids():
        with suppress(OSError):
            with Path(psutil.PROCFS_PATH, str(pid), "cmdline").open("rb") as stream:
                words = stream.read(COMMAND_BYTES).rstrip(b"\0")
            if words:
                yield pid, words.decode(errors="replace").split("\0")


def pids() -> Iterator[int]:
    """Return the ids of all processes."""
    return (int(entry.name) for entry in os.scandir(psutil.PROCFS_PATH) if entry.name.isdecimal())
