"""The instruments of one app in one process, its open runs, and the warnings that were logged."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import metering_failures
from exporter.agent.learned import LearnedMetrics
from exporter.agent.recorder import Recorder
from exporter.agent.runs import Runs
from exporter.timeline import NodeActivity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from exporter.agent.spans import AgentTracer

_LOG = logging.getLogger("exporter.langgraph")
MAX_NODES = 32  # each that calls a model has some 100 series
MAX_WARNINGS = 32


class Instruments(Collector):
    """The instruments of an app in this process; collects the series that exist, without their times of creation.

    Args:
        nodes: the nodes that are known from the start.
        llm_nodes: those that are known to call a language model.
        clock: seconds, monotonic.
    """

    def __init__(
        self, nodes: Sequence[str], llm_nodes: Sequence[str], clock: Callable[[], float], tracer: AgentTracer
    ) -> None:
        self._nodes, self._llm_nodes = nodes, llm_nodes
        self._clock, self._tracer = clock, tracer
        self.begin()

    def begin(self) -> None:
        """Begin at zero, as a process does that was forked from one that has counted."""
        self._registry = CollectorRegistry()
        self._failures = metering_failures(self._registry)
        self._warned: set[str] = set()
        metrics = LearnedMetrics(self._registry, self._nodes, self._llm_nodes, MAX_NODES, self._is_other)
        busy = BusySeconds(self._clock, known=())
        self._registry.register(busy)
        self._activity = NodeActivity(lambda: time.time_ns() // 1_000_000)
        recorder = Recorder(metrics=metrics, activity=self._activity, busy=busy, clock=self._clock, tracer=self._tracer)
        self.runs = Runs(recorder, self._dropped)
        self._registry.register(self.runs.waiting)

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have series."""
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            if family.samples:
                yield family

    def timeline(self) -> bytes:
        """Return the content of /metrics/timeline."""
        return self._activity.expose()

    def failed(self) -> None:
        """Count an event that could not be metered, and log the first one; called while its exception is handled."""
        self._failures.inc()
        if self._is_news("failed"):
            _LOG.exception("An event could not be metered; from now on such failures are only counted.")

    def no_usage(self, node: str) -> None:
        """Log once that a response has no usage."""
        if self._is_news("no usage"):
            _LOG.warning(
                "A call in node %r has no usage, so its tokens are unknown. With ChatOpenAI set stream_usage=True; "
                "hop2rag_llm_calls_without_usage_total counts such calls.",
                node,
            )

    def _dropped(self) -> None:
        """Count a question or a run whose end was never reported, and log the first one."""
        self._failures.inc()
        if self._is_news("dropped"):
            _LOG.warning("The app never reported the end of a question; it counts as cancelled, as later ones will.")

    def _is_other(self, node: str) -> None:
        if len(self._warned) < MAX_WARNINGS and self._is_news(f"node {node}"):
            why = f"only the first {MAX_NODES} plain names have series of their own" if node else "it lies in no node"
            _LOG.warning("Node %.64r counts as `other`: %s.", node, why)

    def _is_news(self, kind: str) -> bool:
        is_news = kind not in self._warned
        self._warned.add(kind)
        return is_news


_ON_REGISTRY: WeakKeyDictionary[CollectorRegistry, Instruments] = WeakKeyDictionary()


def register(registry: CollectorRegistry, instruments: Instruments) -> None:
    """Register an app's instruments, in place of those that an earlier handler has registered there."""
    if earlier := _ON_REGISTRY.pop(registry, None):
        registry.unregister(earlier)
    registry.register(instruments)
    _ON_REGISTRY[registry] = instruments
