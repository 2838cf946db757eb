"""GPU readings as metric families: every field once, what is missing left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from exporter.gpu.families import FIELDS, TOP_PROCESSES, GpuCollector
from exporter.gpu.latest import Clock, GpuRecord
from exporter.gpu.readings import Memory, Processes, Status, Utilization

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeDevice, FakeTime


@pytest.fixture
def record(device: FakeDevice, fake_time: FakeTime) -> GpuRecord:
    """Return a record with a memory reading and nothing else."""
    record = GpuRecord(device, Clock(fake_time.monotonic, fake_time.wall, fake_time.sleep), depth=6000)
    record.put_memory(Memory(used=7), fake_time.now)
    return record


def expose(*records: GpuRecord) -> str:
    """Return the collector's exposition without comments."""
    registry = CollectorRegistry()
    registry.register(GpuCollector(lambda: records, lambda: all(record.is_up for record in records)))
    lines = generate_latest(registry).decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def test_every_field_of_a_complete_gpu_is_served(record: GpuRecord, device: FakeDevice, fake_time: FakeTime) -> None:
    """A metric that no reading feeds would be documented and never seen."""
    for reading in (device.utilization(), device.busy_time(), device.status(), device.xids(), device.pcie()):
        record.put(reading)
    record.put_memory(device.memory(), fake_time.now)
    text = expose(record)
    for metric in FIELDS:
        if metric.name != "hop2rag_exporter_sample_rate_hertz":
            assert f'{metric.name}{{gpu="0"}} ' in text


def test_fields_that_a_gpu_lacks_are_absent(record: GpuRecord) -> None:
    """An invented zero is the worst thing an exporter can say."""
    record.put(Utilization())
    record.put(Status())
    text = expose(record)
    names = {line.partition(" ")[0].partition("{")[0] for line in text.splitlines()}
    assert names == {
        "nvml_up",
        "nvml_gpu_info",
        "nvml_gpu_up",
        "nvml_memory_used_bytes",
        "hop2rag_exporter_sample_age_seconds",
    }


def test_a_lost_gpu_keeps_only_its_identity_and_state(record: GpuRecord, fake_time: FakeTime) -> None:
    """Fault row 2: what remains says that the GPU is down, not what it last did."""
    fake_time.now += 3
    text = expose(record)
    assert "nvml_up 0.0" in text
    assert 'nvml_gpu_up{gpu="0"} 0.0' in text
    assert "memory_used" not in text
    assert 'hop2rag_exporter_sample_age_seconds{gpu="0"} 3.0' in text


def test_xids_are_served_of_a_lost_gpu(record: GpuRecord, device: FakeDevice) -> None:
    """What says why a GPU was lost is asked for when it is."""
    record.put(device.xids())
    record.clear()
    text = expose(record)
    assert 'nvml_gpu_up{gpu="0"} 0.0' in text
    assert 'nvml_last_xid{gpu="0"} 79.0' in text
    assert 'nvml_xid_errors_total{gpu="0"} 1.0' in text


def test_polled_utilisation_stands_in_for_a_missing_history(record: GpuRecord) -> None:
    """Drivers without the sample buffer still report a duty cycle."""
    record.put(Utilization(utilization=0.5))
    assert 'nvml_utilization_ratio{gpu="0"} 0.5' in expose(record)


def test_the_achieved_rate_is_measured(record: GpuRecord, fake_time: FakeTime) -> None:
    """The promise is 100 Hz; what was achieved is a series."""
    for _ in range(50):
        fake_time.now += 0.020
        record.put_memory(Memory(used=7), fake_time.now)
    assert 'hop2rag_exporter_sample_rate_hertz{gpu="0"} 50.0' in expose(record)


def test_a_crowd_of_processes_is_summed(record: GpuRecord) -> None:
    """Fault row 5: process ids are the one open label set, so the rest of a crowd shares a series."""
    record.put(Processes(tuple((pid, 10) for pid in range(1000))))
    text = expose(record)
    assert text.count("nvml_process_memory_bytes{") == TOP_PROCESSES + 1
    assert f'nvml_process_memory_bytes{{gpu="0",pid="other"}} {10.0 * (1000 - TOP_PROCESSES)}' in text
