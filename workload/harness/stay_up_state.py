"""What `hop2rag up` keeps: written before anything is started, so that whoever comes next knows what may still live."""

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
    """An `up`: its process id and create time, its ports, and by name the process id and create time of its servers."""

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
        """Return those of its servers of which something runs."""
        return {name: child for name, child in self.children.items() if left_of(child)}

    def write(self, cache: Path) -> None:
        """Keep it in the cache. Raises `StorageError` where that cannot be."""
        atomic_file.write(cache / FILE, RECORD.dump_json(self))

    def having(self, name: str, child: tuple[int, float] | None) -> UpState:
        """Return it with one more server, or with one less."""
        others = {each: told for each, told in self.children.items() if each != name}
        return replace(self, children=others | ({name: child} if child else {}))


RECORD = TypeAdapter(UpState)


def read_up_state(cache: Path) -> UpState | None:
    """Return what the last `up` wrote and has not taken away; None where nothing was left."""
    with suppress(FileNotFoundError, ValueError):
        return RECORD.validate_json((cache / FILE).read_bytes())
    return None


def forget(cache: Path) -> None:
    """Take the record away, for what it names has ended."""
    (cache / FILE).unlink(missing_ok=True)


def up_lock(cache: Path) -> FileLock:
    """Return the lock of the one `up` of a cache."""
    return FileLock(cache / FOLDER, "hop2rag up of this cache", "up")


def lives(pid: int, created: float) -> bool:
    """Return whether this very process runs."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
