"""An invented /proc, and what a collector makes of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.host.processes import HostCollector, ProcessCollector


def values(collector: ProcessCollector | HostCollector) -> dict[tuple[str, str], float]:
    """Return (metric, label value) -> value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


class Proc:
    """A /proc of invented processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(
        self,
        pid: int,
        parent: int = 1,
        *,
        started: int = 1,
        ticks: int = 0,
        ended: int = 0,
        state: str = "S",
        command: str = "engine",
        pages: int = 1,
        address: str = "127.0.0.1",
    ) -> None:
        """Add or update a process: CPU time in ticks, its own and that of children that have ended."""
        folder = self._folder / str(pid)
        folder.mkdir(exist_ok=True)
        rest = f"{state} {parent} 0 0 0 0 0 0 0 0 0 {ticks} 0 {ended} 0 20 0 1 0 {started} 0 {pages}"
        (folder / "stat").write_text(f"{pid} (a) b ({command}) {rest} 0 0\n")
        (folder / "cmdline").write_bytes(command.encode() + b"\0--flag\0")
        (folder / "net").mkdir(exist_ok=True)
        (folder / "net" / "fib_trie").write_text(
            f"Local:\n  +-- 0.0.0.0/0 2 0 2\n     |-- {address}\n        /32 host LOCAL\n"
        )

    def end(self, pid: int) -> None:
        """Take a process away."""
        shutil.rmtree(self._folder / str(pid))
