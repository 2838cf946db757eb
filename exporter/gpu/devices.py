"""All GPUs of a backend: found once there is a driver, then sampled until stopped."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from exporter.gpu.readings import GpuDevice, GpuError, GpuReader
from exporter.gpu.sampler import BACKOFF_SECONDS, GpuSampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.gpu.latest import GpuRecord

_LOG = logging.getLogger("exporter.gpu.devices")
STOP_SECONDS = 0.5  # for all GPUs together


class Gpus:
    """Opens a backend in a thread of its own, because even that can hang, and starts a sampler for each GPU.

    Without a driver it retries with growing pauses and logs that once.
    """

    def __init__(self, reader: GpuReader, make_sampler: Callable[[GpuDevice], GpuSampler]) -> None:
        self._reader = reader
        self._make_sampler = make_sampler
        self._samplers: list[GpuSampler] = []
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._open, name="open-gpus", daemon=True)
        self.failure: str | None = "no answer yet"

    @property
    def records(self) -> list[GpuRecord]:
        """One record per GPU found so far."""
        return [sampler.record for sampler in self._samplers]

    @property
    def is_up(self) -> bool:
        """True while every GPU found answers, and there is at least one."""
        records = self.records
        return bool(records) and all(record.is_up for record in records)

    @property
    def is_settled(self) -> bool:
        """True once the backend has answered, with or without GPUs."""
        return self._tried.is_set()

    def start(self, patience_seconds: float = 0.0) -> None:
        """Start to look for GPUs, and wait up to `patience_seconds` for the first answer."""
        self._thread.start()
        self._tried.wait(patience_seconds)

    def stop(self) -> None:
        """Stop every sampler; do not wait for threads that hang in the driver."""
        self._stopping.set()
        until = time.monotonic() + STOP_SECONDS
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        for sampler in self._samplers:
            sampler.stop(0.0)  # signal all of them first, so that they end together
        for sampler in self._samplers:
            sampler.stop(until)

    def _open(self) -> None:
        pause_seconds = BACKOFF_SECONDS[0]
        while not self._stopping.is_set():
            try:
                samplers = [self._make_sampler(device) for device in self._reader.open()]
            except GpuError as error:
                self.failure = error.code
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may succeed
                self.failure = type(error).__name__
                _LOG.debug("The GPUs could not be opened.", exc_info=error)
            else:
                self.failure = None if samplers else "no GPU"
            if self.failure is None:
                self._samplers = samplers
                for sampler in self._samplers:
                    sampler.start()
                self._tried.set()
                return
            if not self._tried.is_set():
                _LOG.warning("No GPU metrics: %s. All other metrics are served; NVML is tried again.", self.failure)
                self._tried.set()
            self._stopping.wait(pause_seconds)
            pause_seconds = min(2 * pause_seconds, BACKOFF_SECONDS[1])
