"""What Prometheus alone knows of a soak: how often the engine's counters began again at zero, how much was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.promql.selectors import selector
from workload.promql.soak import COUNTER, TARGET, WHOLE
from workload.services.prometheus import NoDataError, PrometheusError

if TYPE_CHECKING:
    from workload.services.prometheus import PrometheusClient

JOBS = ("vllm", "workload")
SCRAPE_SECONDS = 1.0
"""The interval of both jobs in prometheus/prometheus.yml."""


def counter_resets(client: PrometheusClient | None, run: str) -> int | None:
    """Return the resets in the whole run, all its processes included; None where Prometheus cannot tell."""
    if client is None:
        return None
    try:
        found = client.query(f"resets({selector(COUNTER, {'run': run, 'job': 'vllm'})}[{WHOLE}])")
    except PrometheusError:
        return None
    return round(sum(sample.value for sample in found))


def recorded_share(client: PrometheusClient | None, run: str, elapsed_seconds: float) -> float | None:
    """Return how much of a run's time was scraped under its name, engine and runner both; None if that is not known.

    A run whose targets were taken away from it, or whose Prometheus was away, has measured nothing meanwhile.
    """
    if client is None or elapsed_seconds <= 0:
        return None
    shares = []
    for job in JOBS:
        try:
            good = client.query(f"sum(sum_over_time({selector(TARGET, {'run': run, 'job': job})}[{WHOLE}]))")[0].value
        except NoDataError:
            good = 0.0
        except PrometheusError:
            return None
        shares.append(min(1.0, good * SCRAPE_SECONDS / elapsed_seconds))
    return min(shares)
