"""Samples one GPU: memory at absolute deadlines in one thread, everything slower in another."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from exporter.readings import GpuError
from exporter.record import Clock, GpuRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import CollectorRegistry

    from exporter.readings import GpuDevice, Reading

SAMPLE_INTERVAL_SECONDS = 0.010
KEPT_SECONDS = 60.0  # what the raw log may fall behind before it loses samples
TIER_TICK_SECONDS = 0.1
BACKOFF_SECONDS = (1.0, 60.0)
# Multiples of the interval: within 5 % is on time, 1.2 is the bar for the 99th percentile, beyond 2 a tick was missed.
INTERVAL_BUCKETS = (0.5, 0.9, 0.95, 1.05, 1.1, 1.2, 1.5, 2, 5, 10, 100)


@dataclass(frozen=True)
class Tier:
    """A reading that is taken every `interval_seconds`, as its cost and its own rate of change allow."""

    read: Callable[[], Reading | None]
    interval_seconds: float


def tiers_of(device: GpuDevice, *, pcie: bool, processes: bool) -> list[Tier]:
    """Return the readings besides memory; the two that are dear or label by process only where asked for."""
    tiers = [Tier(device.load, TIER_TICK_SECONDS), Tier(device.history, 1.0), Tier(device.status, 1.0)]
    if processes:
        tiers.append(Tier(device.processes, 5.0))
    if pcie:
        tiers.append(Tier(device.pcie, 5.0))
    return tiers


class SamplerMetrics:
    """What the samplers say about themselves."""

    def __init__(self, registry: CollectorRegistry, interval_seconds: float = SAMPLE_INTERVAL_SECONDS) -> None:
        self.interval = Histogram(
            "hop2rag_exporter_sample_interval_seconds",
            "Time from one memory sample to the next, as achieved.",
            ["gpu"],
            buckets=[round(interval_seconds * factor, 6) for factor in INTERVAL_BUCKETS],
            registry=registry,
        )
        self.missed = Counter(
            "hop2rag_exporter_samples_missed_total",
            "Deadlines that passed without a sample: the thread was late or the driver slow.",
            ["gpu"],
            registry=registry,
        )
        self.errors = Counter(
            "nvml_errors_total",
            "Calls to a GPU that failed, by NVML's name for it.",
            ["gpu", "code"],
            registry=registry,
        )


class Deadlines:
    """Instants `interval_seconds` apart from the first on, so that lateness never adds up."""

    def __init__(self, interval_seconds: float, clock: Clock) -> None:
        self._interval = interval_seconds
        self._clock = clock
        self._next = clock.monotonic()

    def wait(self) -> int:
        """Sleep until the next deadline; return how many had passed already and are given up."""
        late = self._clock.monotonic() - self._next
        missed = max(0, int(late / self._interval))
        self._next += missed * self._interval
        if (delay := self._next - self._clock.monotonic()) > 0:
            self._clock.sleep(delay)
        self._next += self._interval
        return missed


class GpuSampler:
    """Two threads for one GPU, so that a GPU that hangs stops no other and a slow call delays no memory sample.

    A failed memory read means that the GPU is lost: its values vanish at once and its handle is rebuilt with growing
    pauses. A failed slow read costs that reading only.
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
        self._tiers = tiers
        self._interval_seconds = interval_seconds
        gpu = device.info.gpu
        self._interval = metrics.interval.labels(gpu)
        self._missed = metrics.missed.labels(gpu)
        self._errors = metrics.errors
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=f"{name}-{gpu}", daemon=True)
            for name, run in (("memory", self._sample_memory), ("tiers", self._read_tiers))
        ]
        self.record = GpuRecord(device, self._clock, depth=round(KEPT_SECONDS / interval_seconds))

    def start(self) -> None:
        """Start sampling."""
        for thread in self._threads:
            thread.start()

    def stop(self, patience_seconds: float = 0.5) -> None:
        """Stop sampling; a thread that hangs in the driver is left behind after `patience_seconds`."""
        self._stopping.set()
        end = time.monotonic() + patience_seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _sample_memory(self) -> None:
        deadlines = Deadlines(self._interval_seconds, self._clock)
        last = self._clock.monotonic()
        pause_seconds = BACKOFF_SECONDS[0]
        while not self._stopping.is_set():
            if missed := deadlines.wait():
                self._missed.inc(missed)
            now = self._clock.monotonic()
            try:
                self.record.put_memory(self._device.memory(), now)
            except GpuError as error:
                self.record.clear()
                self._count(error)
                pause_seconds = self._recover(pause_seconds)
                deadlines = Deadlines(self._interval_seconds, self._clock)
                last = self._clock.monotonic()
            else:
                self._interval.observe(now - last)
                last = now
                pause_seconds = BACKOFF_SECONDS[0]

    def _count(self, error: GpuError) -> None:
        self._errors.labels(self._device.info.gpu, error.code).inc()

    def _recover(self, pause_seconds: float) -> float:
        """Wait, ask for a new handle, and return the next pause."""
        self._stopping.wait(pause_seconds)
        try:
            self._device.reopen()
        except GpuError as error:
            self._count(error)
        return min(2 * pause_seconds, BACKOFF_SECONDS[1])

    def _read_tiers(self) -> None:
        due = [self._clock.monotonic() for _ in self._tiers]
        while not self._stopping.wait(TIER_TICK_SECONDS):
            now = self._clock.monotonic()
            for number, tier in enumerate(self._tiers):
                if self.record.is_up and now >= due[number]:
                    self._read(tier)
                    due[number] = max(due[number] + tier.interval_seconds, now)

    def _read(self, tier: Tier) -> None:
        try:
            reading = tier.read()
        except GpuError as error:
            self._count(error)
        else:
            if reading is not None:
                self.record.put(reading)
