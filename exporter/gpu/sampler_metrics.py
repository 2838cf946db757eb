"""The samplers' own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SAMPLE_INTERVAL_SECONDS = 0.010
# Multiples of the interval: within 5 % is on time, 1.2 is the bar for the 99th percentile, beyond 2 a tick was missed.
INTERVAL_BUCKETS = (0.5, 0.9, 0.95, 1.05, 1.1, 1.2, 1.5, 2, 5, 10, 100)


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
