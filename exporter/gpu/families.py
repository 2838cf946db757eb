"""Metric families of the GPUs, from their latest readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter.gpu.readings import BusyTime, Memory, Pcie, Processes, Reading, Status, Utilization, Xids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from exporter.gpu.latest import GpuRecord

RATE_WINDOW_MS = 10_000
TOP_PROCESSES = 32
INFO_LABELS = ("gpu", "uuid", "name", "driver", "index", "backend")


@dataclass(frozen=True)
class Field:
    """A metric with one sample per GPU; a name in `_total` makes it a counter."""

    name: str
    text: str
    value: Callable[[GpuRecord], float | None]


def _latest(kind: type[Reading], attribute: str) -> Callable[[GpuRecord], float | None]:
    return lambda record: getattr(record.fresh(kind), attribute, None)


def _utilization(record: GpuRecord) -> float | None:
    """Return the newest sample in the driver's buffer if there is one, else the polled duty cycle."""
    buffered, polled = record.fresh(BusyTime), record.fresh(Utilization)
    if buffered is not None and buffered.latest is not None:
        return buffered.latest
    return polled.utilization if polled else None


def _rate(record: GpuRecord) -> float | None:
    """Return the achieved samples per second over the last ten seconds."""
    if not record.is_up:
        return None
    times_ms = [sample.ts_ms for sample in record.timeline]
    recent = [ts for ts in times_ms if ts > times_ms[-1] - RATE_WINDOW_MS]
    return 1000 * (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else None


FIELDS = (
    Field("nvml_gpu_up", "1 while the GPU answers, else 0.", lambda record: float(record.is_up)),
    Field("nvml_memory_used_bytes", "Device memory in use, the driver's reserve included.", _latest(Memory, "used")),
    Field("nvml_memory_free_bytes", "Device memory not in use.", _latest(Memory, "free")),
    Field(
        "nvml_memory_total_bytes", "Device memory installed, or assigned to the MIG instance.", _latest(Memory, "total")
    ),
    Field(
        "nvml_power_watts",
        "Power draw, instantaneous if the driver reports it.",
        _latest(Utilization, "power_watts"),
    ),
    Field(
        "nvml_utilization_ratio",
        "Share of the driver's last averaging period in which a kernel ran, 0 to 1; a duty cycle, not a fill level.",
        _utilization,
    ),
    Field(
        "nvml_utilization_refresh_seconds",
        "How often the driver updates the utilization; a finer line than this is fiction.",
        _latest(BusyTime, "refresh_seconds"),
    ),
    Field(
        "nvml_busy_seconds_total",
        "Time in which a kernel ran: the integral of all utilization samples in the driver's buffer.",
        _latest(BusyTime, "busy_seconds"),
    ),
    Field(
        "nvml_memory_utilization_ratio",
        "Share of the averaging period in which device memory was read or written, 0 to 1.",
        _latest(Utilization, "memory_utilization"),
    ),
    Field("nvml_energy_joules_total", "Energy drawn since the driver was loaded.", _latest(Status, "energy_joules")),
    Field("nvml_temperature_celsius", "Temperature of the GPU's core.", _latest(Status, "temperature_celsius")),
    Field("nvml_sm_clock_hertz", "Clock of the streaming multiprocessors.", _latest(Status, "sm_clock_hertz")),
    Field("nvml_memory_clock_hertz", "Clock of the device memory.", _latest(Status, "memory_clock_hertz")),
    Field(
        "nvml_ecc_corrected_errors_total",
        "Corrected memory errors over the GPU's lifetime.",
        _latest(Status, "ecc_corrected"),
    ),
    Field(
        "nvml_ecc_uncorrected_errors_total",
        "Uncorrected memory errors over the GPU's lifetime.",
        _latest(Status, "ecc_uncorrected"),
    ),
    Field("nvml_xid_errors_total", "XID errors since the exporter began to watch.", _latest(Xids, "count")),
    Field("nvml_last_xid", "Code of the last XID error; absent until there is one.", _latest(Xids, "last")),
    Field(
        "nvml_pcie_sent_bytes_per_second",
        "PCIe traffic from the GPU, measured by the driver over 20 ms.",
        _latest(Pcie, "sent"),
    ),
    Field(
        "nvml_pcie_received_bytes_per_second",
        "PCIe traffic to the GPU, measured by the driver over 20 ms.",
        _latest(Pcie, "received"),
    ),
    Field(
        "hop2rag_exporter_sample_age_seconds",
        "Time since the GPU last answered the memory sampler; grows while a call hangs.",
        lambda record: record.age_seconds,
    ),
    Field("hop2rag_exporter_sample_rate_hertz", "Memory samples per second over the last ten seconds.", _rate),
)


class GpuCollector:
    """Serves fresh readings; leaves out values that a GPU lacks, and every value of a GPU that does not answer."""

    def __init__(self, records: Callable[[], Sequence[GpuRecord]], is_up: Callable[[], bool]) -> None:
        self._records = records
        self._is_up = is_up

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a sample."""
        up = float(self._is_up())
        yield GaugeMetricFamily("nvml_up", "1 while every GPU found answers; 0 without a driver or a GPU.", up)
        records = self._records()
        families = [_family(field, records) for field in FIELDS]
        yield from (family for family in (_info(records), *families, _processes(records)) if family.samples)


def _family(field: Field, records: Sequence[GpuRecord]) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if field.name.endswith("_total") else GaugeMetricFamily
    family = kind(field.name, field.text, labels=["gpu"])
    for record in records:
        if (value := field.value(record)) is not None:
            family.add_metric([record.info.gpu], value)
    return family


def _info(records: Sequence[GpuRecord]) -> GaugeMetricFamily:
    family = GaugeMetricFamily("nvml_gpu_info", "Identity of a GPU or MIG instance; always 1.", labels=INFO_LABELS)
    for info in (record.info for record in records):
        if info.uuid or info.name:
            family.add_metric([info.gpu, info.uuid, info.name, info.driver, info.index, info.backend], 1)
    return family


def _processes(records: Sequence[GpuRecord]) -> GaugeMetricFamily:
    """Return memory by process: the largest by pid, the rest of a crowded GPU together as "other"."""
    family = GaugeMetricFamily("nvml_process_memory_bytes", "Device memory by process id.", labels=["gpu", "pid"])
    for record in records:
        reading = record.fresh(Processes)
        ranked = sorted(reading.used_by_pid, key=lambda each: -each[1]) if reading else []
        for pid, used in ranked[:TOP_PROCESSES]:
            family.add_metric([record.info.gpu, str(pid)], used)
        if rest := ranked[TOP_PROCESSES:]:
            family.add_metric([record.info.gpu, "other"], sum(used for _, used in rest))
    return family
