"""The agent's instruments, one set for the measured load and one for its warm-up; the metrics page shows one set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from exporter.agent.instruments import AgentMetrics
from exporter.agent.learned import LearnedMetrics
from workload.agent.state import LLM_NODES, NODES
from workload.services.targets import MEASURED, WARM_UP, PhaseLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

    from workload.engine.facts import EngineFacts


MAX_NODES = 32


def of_hop2rag(registry: CollectorRegistry) -> AgentMetrics:
    """Return the instruments of our own agent, whose nodes are known."""
    return AgentMetrics(registry, NODES, LLM_NODES)


def of_any_app(registry: CollectorRegistry) -> AgentMetrics:
    """Return the instruments of an app whose nodes are learned as they run."""
    return LearnedMetrics(registry, (), (), MAX_NODES, lambda _: None)


class Instruments(Collector):
    """Collects the instruments of the current phase.

    If counters continued through a warm-up, they would carry it into the measured series: the phase label changes and
    changes back, and an increase over the gap includes what happened meanwhile.

    Args:
        facts: the facts about the engine, exported in every phase.
        shared: collectors that do not distinguish phases.
        metrics_of: makes the instruments of a phase.

    Attributes:
        registries, metrics: by phase.
        shown: the current phase; None shows nothing.
    """

    def __init__(
        self,
        facts: EngineFacts,
        *shared: Collector,
        metrics_of: Callable[[CollectorRegistry], AgentMetrics] = of_hop2rag,
    ) -> None:
        self.registries: dict[PhaseLabel, CollectorRegistry] = {
            MEASURED: CollectorRegistry(),
            WARM_UP: CollectorRegistry(),
        }
        self.metrics = {phase: metrics_of(own) for phase, own in self.registries.items()}
        self.shown: PhaseLabel | None = MEASURED
        for phase, registry in self.registries.items():
            engine = self.metrics[phase].engine
            engine.version = facts.version
            engine.kv_pool_bytes, engine.kv_block_bytes = facts.kv_pool_bytes, facts.kv_block_bytes
            for collector in shared:
                registry.register(collector)

    def collect(self) -> Iterable[Metric]:
        """Return the families of the current phase."""
        return self.registries[self.shown].collect() if self.shown else ()
