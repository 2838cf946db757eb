"""What the tests of the raw log share: samples, a disk that can be full, and what was written."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from exporter.gpu.rawlog_files import HEADER
from exporter.gpu.readings import Memory
from exporter.gpu.replay import read_traces

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from exporter.gpu.latest import GpuRecord
    from tests.exporter.conftest import FakeTime


def fill(record: GpuRecord, fake_time: FakeTime, count: int) -> None:
    """Take `count` samples 10 ms apart."""
    for _ in range(count):
        fake_time.now += 0.010
        record.put_memory(Memory(used=round((fake_time.now + 1e6) * 1000)), fake_time.now)


class Disk:
    """Stands in for `os` in the module that writes: each write takes what there is room for, or raises `error`."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.error: OSError | None = None

    def write(self, descriptor: int, data: bytes) -> int:
        """Write as much as there is room for."""
        if self.error:
            raise self.error
        taken = data if self.room is None else data[: self.room]
        if data and not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, taken)

    def __getattr__(self, name: str) -> object:
        """Pass the rest on."""
        return getattr(os, name)


def counted(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    """Return rows and errors."""
    prefix = "hop2rag_exporter_raw_log"
    return registry.get_sample_value(f"{prefix}_rows_total"), registry.get_sample_value(f"{prefix}_write_errors_total")


def logged(directory: Path) -> list[list[int]]:
    """Return the memory values in each file, in order of names; each file must be a recording."""
    return [
        [frame.memory.used for frame in read_traces(path).get("0", [])]
        for path in sorted(directory.iterdir())
        if path.read_text() not in {"", HEADER}
    ]
