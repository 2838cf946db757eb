"""Processes as /proc tells of them: one small file each, where a library reads four and walks them all again."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_BYTES = 64 * 1024  # a command line can hold megabytes; its beginning names the program
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process: `started` (ticks since boot) tells it from a later one with the same `pid`.

    `cpu_seconds` holds the time of children that have ended and were waited for. One that `has_ended` waits to be.
    """

    pid: int
    parent: int
    started: int
    cpu_seconds: float
    resident_bytes: int
    has_ended: bool

    @property
    def identity(self) -> tuple[int, int]:
        """Return what no other process of this boot has."""
        return self.pid, self.started


def read_process(pid: int) -> Process | None:
    """Return a process, None if there is none, or none that we may see."""
    with suppress(OSError, ValueError, IndexError):
        stat = Path(psutil.PROCFS_PATH, str(pid), "stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold anything, brackets too
        return Process(
            pid=pid,
            parent=int(fields[1]),
            started=int(fields[19]),
            cpu_seconds=sum(map(int, fields[11:15])) / _TICKS,
            resident_bytes=int(fields[21]) * _PAGE_BYTES,
            has_ended=fields[0] in {b"Z", b"X"},
        )
    return None


def read_processes() -> Iterator[Process]:
    """Yield every process."""
    yield from filter(None, map(read_process, _pids()))


def read_command_lines() -> Iterator[tuple[int, str]]:
    """Yield id and command line of every process that has one."""
    for pid in _pids():
        with suppress(OSError):
            with Path(psutil.PROCFS_PATH, str(pid), "cmdline").open("rb") as stream:
                words = stream.read(COMMAND_BYTES).rstrip(b"\0")
            if words:
                yield pid, words.replace(b"\0", b" ").decode(errors="replace")


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir(psutil.PROCFS_PATH) if entry.name.isdecimal())
