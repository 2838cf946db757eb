"""The state of `hop2rag up` on disk, written before any server starts, so that a later command finds its servers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psutil
from pydantic import TypeAdapter

from workload.files import atomic_file
from workload.services.locks import FOLDER, FileLock
from workload.services.process import left_of

if TYPE_CHECKING:
    from pathlib import Path

FILE = "up.pid"


@dataclass(frozen=True, kw_only=True)
class UpState:
    """A `hop2rag up`: process id and create time, ports, and the process id and create time of each server by name."""

    pid: int
    created: float
    engine_port: int
    prometheus_port: int
    alertmanager_port: int
    children: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def lives(self) -> bool:
        """Whether its process runs; a process id that now belongs to another program does not count."""
        return lives(self.pid, self.created)

    def left(self) -> dict[str, tuple[int, float]]:
        """Return the servers of which a process still runs."""
        return {name: child for name, child in self.children.items() if left_of(child)}

    def write(self, cache: Path) -> None:
        """Write the state to the cache. Raises `StorageError`."""
        atomic_file.write(cache / FILE, RECORD.dump_json(self))

    def having(self, name: str, child: tuple[int, float] | None) -> UpState:
        """Return the state with a server added, or removed if `child` is None."""
        others = {each: identity for each, identity in self.children.items() if each != name}
        return replace(self, children=others | ({name: child} if child else {}))


RECORD = TypeAdapter(UpState)


def read_up_state(cache: Path) -> UpState | None:
    """Return the state that the last `hop2rag up` left; None if it left none."""
    with suppress(FileNotFoundError, ValueError):
        return RECORD.validate_json((cache / FILE).read_bytes())
    return None


def forget(cache: Path) -> None:
    """Remove the state: its servers have ended."""
    (cache / FILE).unlink(missing_ok=True)


def up_lock(cache: Path) -> FileLock:
    """Return the lock that allows one `hop2rag up` per cache."""
    return FileLock(cache / FOLDER, "hop2rag up of this cache", "up")


def lives(pid: int, created: float) -> bool:
    """Return whether the process with this id and create time runs."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
