"""Samples one GPU: memory on a fixed grid of ticks, slower readings at intervals of their own."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

from exporter.gpu.latest import Clock, GpuRecord
from exporter.gpu.readings import GpuDevice, GpuError, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_LOG = logging.getLogger("exporter.gpu.sampler")
KEPT_SECONDS = 60.0  # how far the raw log may fall behind before it loses samples
TIER_TICK_SECONDS = 0.1
# How often to ask a GPU that has not reported its memory for some ticks: often enough to know that it answers.
WITHOUT_MEMORY_SECONDS = 0.5
WITHOUT_MEMORY_TICKS = 10
BACKOFF_SECONDS = (1.0, 60.0)
SAMPLE_INTERVAL_SECONDS = 0.010
# Multiples of the interval: within 5 % is on time, 1.2 is the bar for the 99th percentile, beyond 2 a tick was missed.
INTERVAL_BUCKETS = (0.5, 0.9, 0.95, 1.05, 1.1, 1.2, 1.5, 2, 5, 10, 100)


@dataclass(frozen=True)
class Tier:
    """A reading that is taken every `interval_seconds`, according to its cost and its rate of change."""

    read: Callable[[], Reading | None]
    interval_seconds: float

    @property
    def name(self) -> str:
        """The name of the reading."""
        return str(getattr(self.read, "__name__", "reading"))


def tiers_of(device: GpuDevice, *, pcie: bool, processes: bool) -> list[Tier]:
    """Return the readings besides memory; the two expensive ones only if enabled."""
    tiers = [
        Tier(device.utilization, TIER_TICK_SECONDS),
        Tier(device.busy_time, 1.0),
        Tier(device.status, 1.0),
        Tier(device.xids, 1.0),
    ]
    if processes:
        tiers.append(Tier(device.processes, 5.0))
    if pcie:
        tiers.append(Tier(device.pcie, 5.0))
    return tiers


class GpuSampler:
    """Has a thread for each reading of one GPU, so that one that hangs delays no other reading and no other GPU.

    A GpuError of the memory reading means that the GPU is lost: its values vanish at once, and its handle is reopened
    with growing pauses. Any other exception loses only that reading or that tick.
    """

    def __init__(
        self,
        device: GpuDevice,
        tiers: Sequence[Tier],
        metrics: SamplerMetrics,
        *,
        interval_seconds: float = SAMPLE_INTERVAL_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._device = device
        self._interval_seconds = interval_seconds
        gpu = device.info.gpu
        self._interval = metrics.interval.labels(gpu)
        self._missed = metrics.missed.labels(gpu)
        self._errors = metrics.errors
        self._ticks = Ticks(interval_seconds, self._clock)
        self._last_sampled: float | None = None
        self._pause_seconds = BACKOFF_SECONDS[0]
        self._without_memory = 0
        self._has_unexpected = False
        self._stopping = threading.Event()
        runs = {"memory": self._sample_memory} | {tier.name: partial(self._read_tier, tier) for tier in tiers}
        self._threads = [threading.Thread(target=run, name=f"{name}-{gpu}", daemon=True) for name, run in runs.items()]
        self.record = GpuRecord(device, self._clock, depth=round(KEPT_SECONDS / interval_seconds))

    def start(self) -> None:
        """Start sampling."""
        for thread in self._threads:
            thread.start()

    def stop(self, until: float = 0.0) -> None:
        """Stop sampling; do not wait beyond the monotonic time `until` for a thread that hangs in the driver."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def tick(self) -> None:
        """Wait for the next tick and read the memory once; recover the GPU if it is lost."""
        if missed := self._ticks.wait():
            self._missed.inc(missed)
        now = self._clock.monotonic()
        try:
            memory = self._device.memory()
            self.record.put_memory(memory, now)
        except GpuError as error:
            self._count(error.code)
            self.record.clear()
            self._recover()
        except Exception as error:  # noqa: BLE001 - if the thread ended, the exporter would stay blind
            self._unexpected(error)
            if not self.record.is_up:
                self._recover()
        else:
            self._pause_seconds = BACKOFF_SECONDS[0]
            if memory is None:
                self._without_memory += 1
                if self._without_memory > WITHOUT_MEMORY_TICKS:
                    self._restart_ticks(WITHOUT_MEMORY_SECONDS)
                return
            self._without_memory = 0
            if self._last_sampled is not None:
                self._interval.observe(now - self._last_sampled)
            self._last_sampled = now

    def _sample_memory(self) -> None:
        self._restart_ticks(0.0)
        while not self._stopping.is_set():
            self.tick()

    def _restart_ticks(self, pause_seconds: float) -> None:
        """Wait, then start a new grid of ticks; the gap between the samples around it is not an interval."""
        if pause_seconds:
            self._stopping.wait(pause_seconds)
        self._ticks = Ticks(self._interval_seconds, self._clock)
        self._last_sampled = None

    def _recover(self) -> None:
        """Wait, read the XIDs that explain the loss, and ask for a new handle."""
        self._stopping.wait(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, BACKOFF_SECONDS[1])
        self._read(self._device.xids)
        try:
            self._device.reopen()
        except GpuError as error:
            self._count(error.code)
        except Exception as error:  # noqa: BLE001 - as above
            self._unexpected(error)
        self._restart_ticks(0.0)

    def _read_tier(self, tier: Tier) -> None:
        """Read a tier once the GPU is up, and from then on at its interval."""
        due = self._clock.monotonic()
        while not self._stopping.wait(TIER_TICK_SECONDS):
            now = self._clock.monotonic()
            if self.record.is_up and now >= due:
                self._read(tier.read)
                due = max(due + tier.interval_seconds, now)

    def _read(self, read: Callable[[], Reading | None]) -> None:
        try:
            reading = read()
            for code in self._device.take_failures():
                self._count(code)
        except GpuError as error:
            self._count(error.code)
        except Exception as error:  # noqa: BLE001 - as above
            self._unexpected(error)
        else:
            if reading is not None:
                self.record.put(reading)

    def _count(self, code: str) -> None:
        self._errors.labels(self._device.info.gpu, code).inc()

    def _unexpected(self, error: Exception) -> None:
        """Count an unexpected exception under its class name, and log the first one."""
        self._count(type(error).__name__)
        if not self._has_unexpected:
            self._has_unexpected = True
            _LOG.warning(
                "A reading of GPU %s failed; such failures are counted in nvml_errors_total from now on.",
                self._device.info.gpu,
                exc_info=error,
            )


class Ticks:
    """Instants `interval_seconds` apart, counted from the first one, so that delays never accumulate."""

    def __init__(self, interval_seconds: float, clock: Clock) -> None:
        self._interval = interval_seconds
        self._clock = clock
        self._next = clock.monotonic()

    def wait(self) -> int:
        """Sleep until the next tick; return the number of ticks that had already passed and are skipped."""
        late = self._clock.monotonic() - self._next
        missed = max(0, int(late / self._interval))
        self._next += missed * self._interval
        if (delay := self._next - self._clock.monotonic()) > 0:
            self._clock.sleep(delay)
        self._next += self._interval
        return missed


class SamplerMetrics:
    """The samplers' own metrics."""

    def __init__(self, registry: CollectorRegistry, interval_seconds: float = SAMPLE_INTERVAL_SECONDS) -> None:
        self.interval = Histogram(
            "hop2rag_exporter_sample_interval_seconds",
            "Achieved time from one memory sample to the next.",
            ["gpu"],
            buckets=[round(interval_seconds * factor, 6) for factor in INTERVAL_BUCKETS],
            registry=registry,
        )
        self.missed = Counter(
            "hop2rag_exporter_samples_missed_total",
            "Ticks that passed without a sample: the thread was late or the driver slow.",
            ["gpu"],
            registry=registry,
        )
        self.errors = Counter(
            "nvml_errors_total",
            "Failed calls to a GPU, by NVML's name of the failure, or by the class of any other exception.",
            ["gpu", "code"],
            registry=registry,
        )
