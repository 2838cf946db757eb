"""What the samplers say about themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SAMPLE_INTERVAL_SECONDS = 0.010
# Multiples of the interval: within 5 % is on time, 1.2 is the bar for the 99th percentile, beyond 2 a tick was missed.
INTERVAL_BUCKETS = (0.5, 0.9, 0.95, 1.05, 1.1, 1.2, 1.5, 2, 5, 10, 100)


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
            "Calls to a GPU that failed, by NVML's name for it or that of an exception that is not NVML's.",
            ["gpu", "code"],
            registry=registry,
        )
