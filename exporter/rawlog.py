"""Every memory sample on disk: the record, of which Prometheus is a view. A replay reads the same format."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from prometheus_client import Counter

from exporter.errors import StorageError
from exporter.readings import Load, Status
from exporter.replay import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from exporter.record import GpuRecord, Sample

_LOG = logging.getLogger("exporter.rawlog")
HEADER = ",".join((COLUMNS[0], "gpu", *COLUMNS[1:])) + "\n"
WRITE_SECONDS = 1.0
MAX_FILE_BYTES = 64 * 1024 * 1024  # about three hours of one GPU at 10 ms
KEPT_FILES = 16


class RawLogMetrics:
    """What the raw log says about itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("hop2rag_exporter_raw_log_rows_total", "Samples written to the raw log.", registry=registry)
        self.errors = Counter(
            "hop2rag_exporter_raw_log_write_errors_total", "Failed attempts to write the raw log.", registry=registry
        )


class RawLog:
    """Appends what the records gathered to a CSV, once a second, from a thread of its own.

    A file is closed at `max_file_bytes` and the oldest are deleted beyond `kept_files`. Should the disk fail, sampling
    and scrapes go on, the error is counted, and writing is tried again with what is still held in memory.

    Args:
        directory: where the files go; they are readable by their owner only.
        records: returns the GPUs found so far.
        metrics: the log's own counters.
        wall: seconds since 1970, for file names.
        max_file_bytes: size at which a new file is begun.
        kept_files: files kept, the current one included.

    Raises:
        StorageError: the directory cannot be created or written.
    """

    def __init__(
        self,
        directory: Path,
        records: Callable[[], Sequence[GpuRecord]],
        metrics: RawLogMetrics,
        *,
        wall: Callable[[], float] = time.time,
        max_file_bytes: int = MAX_FILE_BYTES,
        kept_files: int = KEPT_FILES,
    ) -> None:
        self._directory = directory
        self._records = records
        self._wall = wall
        self._max_file_bytes = max_file_bytes
        self._kept_files = kept_files
        self._written_ms: dict[str, int] = {}
        self._metrics = metrics
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="raw-log", daemon=True)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._stream = self._begin()
        except OSError as error:
            raise StorageError(
                f"The raw log cannot be written to {directory}: {error.strerror}.",
                "Pick another with --raw-log.directory.",
            ) from error

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and close the file."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stream.close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(WRITE_SECONDS)
            try:
                self._write()
            except OSError as error:
                self._metrics.errors.inc()
                _LOG.warning("The raw log could not be written: %s. It is tried again.", error.strerror)

    def _write(self) -> None:
        if self._stream.tell() > self._max_file_bytes:
            self._stream.close()
            self._stream = self._begin()
        for record in self._records():
            gpu, samples = record.info.gpu, record.samples.copy()
            since_ms = self._written_ms.get(gpu, 0)
            if samples and samples[-1].ts_ms < since_ms:  # the clock was set back
                since_ms = 0
            if new := [sample for sample in samples if sample.ts_ms > since_ms]:
                self._append("".join(encode_row(gpu, sample) for sample in new).encode())
                self._written_ms[gpu] = new[-1].ts_ms
                self._metrics.rows.inc(len(new))

    def _append(self, rows: bytes) -> None:
        """Write all of `rows` or none: what a full disk took of them is cut off again, to be written whole later."""
        end = self._stream.tell()
        try:
            written = self._stream.write(rows)
        except OSError:
            self._stream.truncate(end)
            raise
        if written != len(rows):
            self._stream.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _begin(self) -> FileIO:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._wall()))
        number = len(list(self._directory.glob(f"nvml_{stamp}_*.csv")))
        path = self._directory / f"nvml_{stamp}_{number:02d}.csv"
        path.touch(mode=0o600, exist_ok=False)
        stream = path.open("ab", buffering=0)
        stream.write(HEADER.encode())
        for old in sorted(self._directory.glob("nvml_*.csv"))[: -self._kept_files]:
            old.unlink()
        return stream


def encode_row(gpu: str, sample: Sample) -> str:
    """Return one line of the CSV; what is not known is an empty cell."""
    load, status = sample.load or Load(), sample.status or Status()
    cells = (
        sample.ts_ms,
        gpu,
        sample.used_bytes,
        _scaled(load.utilization, 100),
        _scaled(load.memory_utilization, 100),
        _scaled(load.power_watts, 1000),
        _scaled(status.sm_clock_hertz, 1e-6),
        _scaled(status.temperature_celsius, 1),
    )
    return ",".join(map(str, cells)) + "\n"


def _scaled(value: float | None, factor: float) -> float | str:
    return "" if value is None else round(value * factor)
