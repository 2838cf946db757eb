"""CPU time and memory of the whole host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric


class HostCollector:
    """Reads /proc/stat and /proc/meminfo at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield CPU seconds by mode, and memory."""
        cpu = CounterMetricFamily("hop2rag_host_cpu_seconds_total", "CPU time of all cores by mode.", labels=["mode"])
        times = psutil.cpu_times()._asdict()
        for mode, seconds in times.items():
            if not mode.startswith("guest"):  # already included in user and nice
                cpu.add_metric([mode], seconds)
        yield cpu
        memory = psutil.virtual_memory()
        yield GaugeMetricFamily("hop2rag_host_memory_total_bytes", "Memory installed.", memory.total)
        yield GaugeMetricFamily(
            "hop2rag_host_memory_available_bytes", "Memory available without swapping.", memory.available
        )
