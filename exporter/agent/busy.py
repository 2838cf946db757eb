"""How long retrieval and generation ran, alone and at the same time: `hop2rag_busy_seconds_total{activity}`."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Resource = Literal["retrieval", "generation"]
RESOURCES = {
    "retrieval_only": ("retrieval",),
    "generation_only": ("generation",),
    "both": ("retrieval", "generation"),
    "neither": (),
}
ACTIVITIES = tuple(RESOURCES)


class BusySeconds(Collector):
    """Splits the wall time of a load into four activities that add up to it.

    Time is credited when an activity starts or ends, and at each scrape, so a counter moves during a long call too.

    Args:
        clock: seconds, monotonic.
        known: the resources that the load uses; activities of another one are absent until it is first busy.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        known: Iterable[Resource] = ("retrieval", "generation"),
    ) -> None:
        self._clock = clock
        self._known: set[str] = {*known}
        self._lock = threading.Lock()
        self._running = {"retrieval": 0, "generation": 0}
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0)
        self._since: float | None = None

    @contextmanager
    def accounting(self) -> Iterator[None]:
        """Credit the time inside the block, and no other."""
        with self._lock:
            self._since = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._credit()
                self._since = None

    @contextmanager
    def busy(self, resource: Resource) -> Iterator[None]:
        """Mark `resource` as busy inside the block; blocks may overlap and nest."""
        self.change(resource, 1)
        try:
            yield
        finally:
            self.change(resource, -1)

    def change(self, resource: Resource, step: int) -> None:
        """Mark `resource` as busy once more (`step` 1) or once less (-1)."""
        with self._lock:
            self._credit()
            self._known.add(resource)
            self._running[resource] += step

    def seconds(self) -> dict[str, float]:
        """Return seconds by activity, credited up to now."""
        with self._lock:
            self._credit()
            return dict(self._seconds)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counter with one series per activity."""
        family = CounterMetricFamily(
            "hop2rag_busy_seconds",
            "Wall time of the load in which retrieval, generation, both or neither ran.",
            labels=["activity"],
        )
        for activity, seconds in self.seconds().items():
            if self._known.issuperset(RESOURCES[activity]):
                family.add_metric([activity], seconds)
        yield family

    def _credit(self) -> None:
        if self._since is None:
            return
        now = self._clock()
        self._seconds[self._activity()] += now - self._since
        self._since = now

    def _activity(self) -> str:
        if self._running["retrieval"]:
            return "both" if self._running["generation"] else "retrieval_only"
        return "generation_only" if self._running["generation"] else "neither"
