"""Rows of the raw log, with the columns that a replay reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.gpu.readings import Status, Utilization
from exporter.gpu.replay import COLUMNS

if TYPE_CHECKING:
    from exporter.gpu.latest import MemorySample

HEADER = ",".join((COLUMNS[0], "gpu", *COLUMNS[1:])) + "\n"


def encode_row(gpu: str, sample: MemorySample) -> str:
    """Return one line of the CSV; an unknown value is an empty cell."""
    utilization, status = sample.utilization or Utilization(), sample.status or Status()
    cells = (
        sample.ts_ms,
        gpu,
        sample.used_bytes,
        _scaled(utilization.utilization, 100),
        _scaled(utilization.memory_utilization, 100),
        _scaled(utilization.power_watts, 1000),
        _scaled(status.sm_clock_hertz, 1e-6),
        _scaled(status.temperature_celsius, 1),
    )
    return ",".join(map(str, cells)) + "\n"


def _scaled(value: float | None, factor: float) -> float | str:
    return "" if value is None else round(value * factor)
