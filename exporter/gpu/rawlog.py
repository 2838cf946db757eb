"""Writes every memory sample to disk; a replay reads the same format."""

from __future__ import annotations

import logging
import threading
import time
from itertools import groupby
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter

from exporter.errors import StorageError
from exporter.gpu.rawlog_files import RawLogFiles, encode_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from exporter.gpu.latest import GpuRecord, MemorySample

_LOG = logging.getLogger("exporter.gpu.rawlog")
WRITE_SECONDS = 1.0
STOP_SECONDS = 2.0  # for the last rows; a disk that hangs loses them
MAX_FILE_BYTES = 64 * 1024 * 1024  # about three hours of one GPU at 10 ms
KEPT_FILES = 16


class RawLogMetrics:
    """The raw log's own metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("hop2rag_exporter_raw_log_rows_total", "Samples written to the raw log.", registry=registry)
        self.errors = Counter(
            "hop2rag_exporter_raw_log_write_errors_total", "Failed attempts to write the raw log.", registry=registry
        )


class RawLog:
    """Appends new samples to a CSV once per second, from a thread of its own.

    It begins a new file at `max_file_bytes`, and when the wall clock is set back, because times ascend within a file.
    It deletes its oldest files beyond `kept_files`. If the disk fails, at any point, sampling and scrapes continue, the
    error is counted, and the log retries with the samples that are still in memory.

    Args:
        directory: the folder of the files; only their owner can read them.
        max_file_bytes: the size at which a new file begins.
        kept_files: the number of files to keep, the current one included.

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
        self._records = records
        self._max_file_bytes = max_file_bytes
        self._files = RawLogFiles(directory, wall, kept_files)
        self._written: dict[str, tuple[int, int]] = {}  # GPU -> epoch and time of the last row
        self._metrics = metrics
        self._is_failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="raw-log", daemon=True)
        try:
            self._files.begin()
        except OSError as error:
            raise StorageError(
                f"The raw log cannot be written to {directory}: {error.strerror}.",
                "Pick another with --raw-log.directory.",
            ) from error

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self, patience_seconds: float = STOP_SECONDS) -> None:
        """Write the last rows and close the file; give up after `patience_seconds` on a disk that hangs."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(patience_seconds)
        if self._thread.is_alive():
            _LOG.warning("The raw log's disk hangs; its last rows are lost.")
        else:
            self._files.close()

    def write(self) -> None:
        """Write every new sample; count and log a failure."""
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - whatever a disk does, the log retries in a second
            self._metrics.errors.inc()
            if not self._is_failing:
                reason = getattr(error, "strerror", None) or type(error).__name__
                _LOG.warning("The raw log could not be written: %s. It is retried every second.", reason)
            self._is_failing = True
        else:
            self._is_failing = False

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(WRITE_SECONDS)
            self.write()

    def _write(self) -> None:
        if self._files.size > self._max_file_bytes or not self._files.is_ours:
            self._files.begin()
        for record in self._records():
            gpu = record.info.gpu
            before = self._written.get(gpu, (0, 0))
            new = [sample for sample in record.samples.copy() if (sample.epoch, sample.ts_ms) > before]
            for epoch, samples in groupby(new, key=lambda sample: sample.epoch):
                self._append(gpu, epoch, list(samples))

    def _append(self, gpu: str, epoch: int, samples: Sequence[MemorySample]) -> None:
        if gpu in self._written and self._written[gpu][0] != epoch:
            self._files.begin()
        self._files.append("".join(encode_row(gpu, sample) for sample in samples).encode())
        self._written[gpu] = epoch, samples[-1].ts_ms
        self._metrics.rows.inc(len(samples))
