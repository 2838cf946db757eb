"""The agent's instruments, once for what is measured and once for its warm-up, of which the metrics page shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from exporter.agent.instruments import AgentMetrics
from workload.agent.state import LLM_NODES, NODES
from workload.services.targets import MEASURED, WARM_UP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from workload.engine.facts import EngineFacts
    from workload.services.targets import PhaseLabel


class Instruments(Collector):
    """Collects the instruments of the phase that is shown.

    Counters that went on through a warm-up would carry it into the measured series: its label goes and comes back, and
    an increase over the gap counts what happened meanwhile.

    Args:
        facts: what is told of the engine in every phase.
        shared: collectors of what needs no phase to be told apart.

    Attributes:
        registries, metrics: those of each phase.
        shown: the phase under way; None shows nothing.
    """

    def __init__(self, facts: EngineFacts, *shared: Collector) -> None:
        self.registries: dict[PhaseLabel, CollectorRegistry] = {
            MEASURED: CollectorRegistry(),
            WARM_UP: CollectorRegistry(),
        }
        self.metrics = {phase: AgentMetrics(own, NODES, LLM_NODES) for phase, own in self.registries.items()}
        self.shown: PhaseLabel | None = MEASURED
        for phase, registry in self.registries.items():
            engine = self.metrics[phase].engine
            engine.version = facts.version
            engine.kv_pool_bytes, engine.kv_block_bytes = facts.kv_pool_bytes, facts.kv_block_bytes
            for collector in shared:
                registry.register(collector)

    def collect(self) -> Iterable[Metric]:
        """Return the families of the phase that is shown."""
        return self.registries[self.shown].collect() if self.shown else ()
