"""How often the engine's counters began again at zero during a soak, by Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.prometheus import PrometheusError
from workload.promql.soak import COUNTER
from workload.selectors import selector

if TYPE_CHECKING:
    from workload.prometheus import PrometheusClient
    from workload.soak.record import SoakRecord


def counter_resets(client: PrometheusClient | None, run: str, record: SoakRecord) -> int | None:
    """Return the resets between the run's first and last segment; None where Prometheus cannot tell."""
    if client is None:
        return None
    ((start, end),) = record.rows("SELECT min(started_at), max(ended_at) FROM segment")
    try:
        found = client.query(
            f"resets({selector(COUNTER, {'run': run, 'job': 'vllm'})}[{round(end - start) + 1}s])", end
        )
    except PrometheusError:
        return None
    return round(sum(sample.value for sample in found))
