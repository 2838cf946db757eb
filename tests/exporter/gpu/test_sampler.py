"""Samplers that lose a GPU without losing the others."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from exporter.gpu import sampler as module
from exporter.gpu.latest import Clock
from exporter.gpu.readings import GpuError, Memory, Pcie, Processes, Status, Utilization, Xids
from exporter.gpu.sampler import GpuSampler, SamplerMetrics, tiers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.exporter.conftest import FakeDevice, FakeTime


@pytest.fixture
def metrics() -> SamplerMetrics:
    """Return instruments on a registry of their own."""
    return SamplerMetrics(CollectorRegistry())


@pytest.fixture
def start(metrics: SamplerMetrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[FakeDevice], GpuSampler]]:
    """Return a function that samples a device until the test ends, with pauses short enough for a test."""
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.05, 0.2))
    samplers = []

    def begin(device: FakeDevice) -> GpuSampler:
        sampler = GpuSampler(device, tiers_of(device, pcie=True, processes=True), metrics)
        sampler.start()
        samplers.append(sampler)
        return sampler

    yield begin
    for sampler in samplers:
        sampler.stop()


def test_every_tier_is_read(
    start: Callable[[FakeDevice], GpuSampler], device: FakeDevice, wait_until: Callable[..., None]
) -> None:
    """The slow readings run in parallel to the memory samples."""
    record = start(device).record
    for kind in (Memory, Utilization, Status, Pcie, Processes):
        wait_until(lambda kind=kind: record.fresh(kind) is not None)


def test_a_reading_that_hangs_costs_only_itself(
    start: Callable[[FakeDevice], GpuSampler], device: FakeDevice, wait_until: Callable[..., None]
) -> None:
    """Energy can hang while load answers: its values end, and no others."""
    hangs, asked = threading.Event(), threading.Event()

    def status() -> Status:
        asked.set()
        hangs.wait()
        return Status()

    device.status = status  # type: ignore[method-assign]
    record = start(device).record
    asked.wait()
    for kind in (Memory, Utilization, Pcie, Processes, Xids):
        wait_until(lambda kind=kind: record.fresh(kind) is not None)
    assert record.fresh(Status) is None
    hangs.set()
    wait_until(lambda: record.fresh(Status) is not None)


def test_pcie_and_processes_are_off_unless_asked_for(device: FakeDevice) -> None:
    """One blocks for 40 ms, the other takes a lock in some drivers: they must be opt-in."""
    reads = [tier.read for tier in tiers_of(device, pcie=False, processes=False)]
    assert device.pcie not in reads
    assert device.processes not in reads


class Stopping:
    """Stands in for a sampler's event: its waits pass on the fake clock, at once."""

    def __init__(self, fake_time: FakeTime) -> None:
        self._time = fake_time

    def wait(self, seconds: float) -> bool:
        """Let the time pass."""
        self._time.sleep(seconds)
        return False


@pytest.fixture
def stepped(device: FakeDevice, metrics: SamplerMetrics, fake_time: FakeTime) -> GpuSampler:
    """Return a sampler that moves tick by tick, on a clock that only moves with it."""
    clock = Clock(fake_time.monotonic, fake_time.wall, fake_time.sleep)
    sampler = GpuSampler(device, tiers_of(device, pcie=False, processes=False), metrics, clock=clock)
    sampler._stopping = Stopping(fake_time)  # type: ignore[assignment]
    return sampler


def ticks(sampler: GpuSampler, count: int) -> None:
    """Take that many ticks."""
    for _ in range(count):
        sampler.tick()


def observed(metrics: SamplerMetrics) -> tuple[int, float]:
    """Return number and sum of the intervals seen on GPU 0."""
    samples = {sample.name: sample.value for sample in metrics.interval.labels("0").collect()[0].samples}
    name = "hop2rag_exporter_sample_interval_seconds"
    return int(samples[f"{name}_count"]), samples[f"{name}_sum"]


def test_samples_come_at_the_interval(stepped: GpuSampler) -> None:
    """100 samples a second is what the timeline promises; what a machine makes of it is the benchmark's."""
    ticks(stepped, 101)
    times_ms = [sample.ts_ms for sample in stepped.record.samples]
    assert times_ms[-1] - times_ms[0] == pytest.approx(1000, abs=1)
    assert all(9 <= later - earlier <= 11 for earlier, later in pairwise(times_ms))


def test_no_interval_is_seen_before_there_are_two_samples(
    stepped: GpuSampler, device: FakeDevice, metrics: SamplerMetrics
) -> None:
    """An interval of 0 s at each start and each recovery would say that the sampler is early."""
    ticks(stepped, 1)
    assert observed(metrics) == (0, 0.0)
    ticks(stepped, 10)
    assert observed(metrics) == (10, pytest.approx(0.1))
    device.failure = "GPU_IS_LOST"
    ticks(stepped, 1)
    device.failure = None
    ticks(stepped, 1)
    assert observed(metrics) == (10, pytest.approx(0.1))
    ticks(stepped, 1)
    assert observed(metrics) == (11, pytest.approx(0.11))


def test_a_gpu_that_does_not_report_its_memory_is_up(
    stepped: GpuSampler, device: FakeDevice, metrics: SamplerMetrics, fake_time: FakeTime
) -> None:
    """A GB10 has no memory of its own; it is asked seldom, misses no sample, and its other values are served."""
    device.memory = lambda: None  # type: ignore[method-assign,assignment,return-value]
    for _ in range(30):
        stepped._read(device.utilization)
        stepped.tick()
        assert stepped.record.is_up
    assert stepped.record.fresh(Memory) is None
    assert stepped.record.fresh(Utilization) is not None
    assert not stepped.record.samples
    assert device.reopened == 0
    assert fake_time.now >= 1000 + 20 * 0.5
    assert metrics.missed.labels("0")._value.get() == 0
    assert observed(metrics) == (0, 0.0)


def test_a_tick_without_memory_costs_a_tick(stepped: GpuSampler, device: FakeDevice) -> None:
    """A driver that fails once must not cost the half second that a GPU without memory is left alone for."""
    ticks(stepped, 2)
    healthy, device.memory = device.memory, lambda: None  # type: ignore[method-assign,assignment,return-value]
    ticks(stepped, 1)
    device.memory = healthy  # type: ignore[method-assign]
    ticks(stepped, 1)
    first, *_, last = stepped.record.samples
    assert len(stepped.record.samples) == 3
    assert last.ts_ms - first.ts_ms == pytest.approx(30, abs=1)


@pytest.mark.parametrize("error", [OSError(5, "I/O"), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), TypeError("x")])
def test_an_exception_that_is_no_gpu_error_costs_a_tick(
    stepped: GpuSampler, device: FakeDevice, metrics: SamplerMetrics, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that ends unexpectedly blinds the exporter until it is restarted."""

    def fail() -> Memory:
        raise error

    ticks(stepped, 2)
    healthy, device.memory = device.memory, fail  # type: ignore[method-assign]
    ticks(stepped, 3)
    assert (len(stepped.record.samples), device.reopened) == (2, 0)
    device.memory = healthy  # type: ignore[method-assign]
    ticks(stepped, 1)
    assert len(stepped.record.samples) == 3
    assert metrics.errors.labels("0", type(error).__name__)._value.get() == 3
    assert len(caplog.records) == 1


def test_a_gpu_that_surprises_for_seconds_is_opened_anew(stepped: GpuSampler, device: FakeDevice) -> None:
    """Whatever it is, a handle that gives nothing else for two seconds is of no use."""

    def fail() -> Memory:
        raise OSError(5, "I/O")

    ticks(stepped, 1)
    device.memory = fail  # type: ignore[method-assign]
    ticks(stepped, 300)
    assert not stepped.record.is_up
    assert device.reopened >= 1


def test_a_surprise_while_a_gpu_is_opened_anew_is_survived(stepped: GpuSampler, device: FakeDevice) -> None:
    """The name of a GPU that comes back may be no text."""

    def fail() -> None:
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "x")

    device.failure, healthy = "GPU_IS_LOST", device.reopen
    device.reopen = fail  # type: ignore[method-assign]
    ticks(stepped, 2)
    device.failure, device.reopen = None, healthy  # type: ignore[method-assign]
    ticks(stepped, 1)
    assert stepped.record.is_up


def test_the_xids_of_a_loss_are_served_while_the_gpu_is_gone(stepped: GpuSampler, device: FakeDevice) -> None:
    """A card that fell off the bus does not come back before the host is restarted: its XID must be seen before."""
    ticks(stepped, 1)
    device.failure = "GPU_IS_LOST"
    ticks(stepped, 1)
    assert not stepped.record.is_up
    assert stepped.record.fresh(Xids) == Xids(1, 79)
    assert stepped.record.fresh(Memory) is None


def test_row_02_reopening_slows_down(stepped: GpuSampler, device: FakeDevice, fake_time: FakeTime) -> None:
    """Fault row 2: a dead card must not be asked a hundred times a second."""
    device.failure = "GPU_IS_LOST"
    ticks(stepped, 8)
    pauses = [seconds for seconds in fake_time.slept if seconds >= 1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    device.failure = None
    ticks(stepped, 1)
    device.failure = "GPU_IS_LOST"
    ticks(stepped, 1)
    assert fake_time.slept[-1] == 1


def test_row_02_a_lost_gpu_vanishes_is_counted_and_comes_back(
    start: Callable[[FakeDevice], GpuSampler],
    device: FakeDevice,
    metrics: SamplerMetrics,
    wait_until: Callable[..., None],
) -> None:
    """Fault row 2: no value outlives the GPU, the code is counted, the handle is rebuilt."""
    record = start(device).record
    wait_until(lambda: record.is_up)
    device.failure = "GPU_IS_LOST"
    wait_until(lambda: not record.is_up)
    assert record.fresh(Utilization) is None
    wait_until(lambda: device.reopened >= 2)
    assert metrics.errors.labels("0", "GPU_IS_LOST")._value.get() >= 2
    device.failure = None
    wait_until(lambda: record.is_up)


def test_row_02_other_gpus_go_on(
    start: Callable[[FakeDevice], GpuSampler],
    device: FakeDevice,
    wait_until: Callable[..., None],
) -> None:
    """Fault row 2: seven healthy GPUs must not pay for the eighth, which hangs here until the test lets it go."""
    hangs, other = threading.Event(), type(device)("1")
    healthy = start(other).record
    device.memory = lambda: hangs.wait() and None  # type: ignore[method-assign,assignment,return-value]
    start(device)
    before = len(healthy.samples)
    wait_until(lambda: len(healthy.samples) > before + 15)
    hangs.set()


def test_a_failing_slow_reading_costs_only_itself(
    start: Callable[[FakeDevice], GpuSampler],
    device: FakeDevice,
    metrics: SamplerMetrics,
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sensor that breaks must not take the memory series with it."""

    def fail() -> Status:
        raise GpuError("UNKNOWN")

    monkeypatch.setattr(device, "status", fail)
    record = start(device).record
    wait_until(lambda: metrics.errors.labels("0", "UNKNOWN")._value.get() >= 1)
    assert record.fresh(Status) is None
    wait_until(lambda: record.fresh(Utilization) is not None)


def test_fields_that_failed_are_counted(stepped: GpuSampler, device: FakeDevice, metrics: SamplerMetrics) -> None:
    """A field that failed must be distinguishable from one that the GPU does not have."""
    device.take_failures = lambda: ["UNKNOWN", "UNKNOWN"]  # type: ignore[method-assign]
    stepped._read(device.status)
    assert metrics.errors.labels("0", "UNKNOWN")._value.get() == 2
