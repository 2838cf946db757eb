"""Collectors, each isolated from the others: a broken one costs its own series and nothing else."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

_LOG = logging.getLogger("exporter.collector")


class Collector(Protocol):
    """Turns what is known now into metric families. Having nothing to tell is no error."""

    def collect(self) -> Iterable[Metric]:
        """Yield families; an empty family is better left out."""


class Collectors:
    """Collects from each collector in isolation and reports how that went.

    Args:
        collectors: name, as in `--collector.NAME`, -> collector.
        clock: seconds, monotonic.
    """

    def __init__(self, collectors: Mapping[str, Collector], clock: Callable[[], float] = time.perf_counter) -> None:
        self._collectors = collectors
        self._clock = clock
        self._failing: set[str] = set()

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the collectors that succeed, then success and duration by collector."""
        success = GaugeMetricFamily(
            "hop2rag_exporter_collector_success",
            "1 if the collector answered this scrape, else 0.",
            labels=["collector"],
        )
        duration = GaugeMetricFamily(
            "hop2rag_exporter_collector_duration_seconds",
            "Time the collector took for this scrape.",
            labels=["collector"],
        )
        for name, collector in self._collectors.items():
            start = self._clock()
            families = self.isolated(name, collector)
            duration.add_metric([name], self._clock() - start)
            success.add_metric([name], float(families is not None))
            yield from families or ()
        yield success
        yield duration

    def isolated(self, name: str, collector: Collector) -> list[Metric] | None:
        """Return the collector's families, or None if it raised: the one place that logs and goes on.

        A collector that keeps failing is logged once, not once a scrape.
        """
        try:
            families = list(collector.collect())
        except Exception:  # noqa: BLE001 - whatever a collector does, the scrape is answered
            if name not in self._failing:
                _LOG.exception("Collector %s failed; its series are missing until it works again.", name)
            self._failing.add(name)
            return None
        self._failing.discard(name)
        return families
