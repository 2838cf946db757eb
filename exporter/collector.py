"""Collectors, isolated from one another: one that fails or hangs loses its own series and nothing else."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import GaugeMetricFamily

from exporter.timed_call import PendingCall, TimedCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric


_LOG = logging.getLogger("exporter.collector")
COLLECT_SECONDS = 0.7  # our scrapes time out after one second


class Collector(Protocol):
    """Turns the current state into metric families. Yielding nothing is not an error."""

    def collect(self) -> Iterable[Metric]:
        """Yield families; leave out empty ones."""


class IncompleteError(Exception):
    """Some series of a collector are missing; `families` are the others."""

    def __init__(self, missing: str, families: Iterable[Metric]) -> None:
        super().__init__(missing)
        self.families = list(families)


class Collectors:
    """Runs all collectors at the same time, each in a thread of its own, and reports success and duration.

    Args:
        collectors: name, as in `--collector.NAME`, -> collector.
        seconds: how long a scrape waits for a collector; a slower one is left out.
    """

    def __init__(
        self,
        collectors: Mapping[str, Collector],
        clock: Callable[[], float] = time.perf_counter,
        seconds: float = COLLECT_SECONDS,
    ) -> None:
        self._calls = {
            name: TimedCall(partial(_families_of, collector), seconds, f"collect-{name}", clock)
            for name, collector in collectors.items()
        }
        self._failing: set[str] = set()

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the collectors that succeed, then success and duration by collector."""
        success = GaugeMetricFamily(
            "hop2rag_exporter_collector_success",
            "1 if the collector did its work for this scrape, else 0; without a GPU it is nvml_up that is 0.",
            labels=["collector"],
        )
        duration = GaugeMetricFamily(
            "hop2rag_exporter_collector_duration_seconds",
            "Time the collector took for this scrape, or has been at it without an answer.",
            labels=["collector"],
        )
        asked = {name: call.begin() for name, call in self._calls.items()}
        for name, pending in asked.items():
            families, is_complete = self._families(name, pending)
            duration.add_metric([name], pending.age)
            success.add_metric([name], float(is_complete))
            yield from families
        yield success
        yield duration

    def _families(self, name: str, pending: PendingCall[list[Metric]]) -> tuple[list[Metric], bool]:
        """Return the families of a collector and whether they are complete: the only place that logs and goes on.

        A collector that keeps failing is logged once, not on every scrape.
        """
        try:
            families = pending.wait()
        except IncompleteError as error:
            self._say(name, "Collector %s lacks %s, until it recovers.", error)
            return error.families, False
        except TimeoutError:
            self._say(name, "Collector %s did not answer within %g s; its series are missing.", pending.seconds)
            return [], False
        except BaseException as error:  # noqa: BLE001 - whatever a collector does, the scrape is answered
            self._say(name, "Collector %s failed; its series are missing until it recovers.", cause=error)
            return [], False
        self._failing.discard(name)
        return families, True

    def _say(self, name: str, text: str, *values: object, cause: BaseException | None = None) -> None:
        if name not in self._failing:
            self._failing.add(name)
            _LOG.error(text, name, *values, exc_info=cause)


def _families_of(collector: Collector) -> list[Metric]:
    """Return the families of a collector after checking them: one that cannot be encoded would fail the page.

    Raises:
        IncompleteError: some cannot be encoded.
    """
    families = list(collector.collect())
    sound = [family for family in families if _can_be_encoded(family)]
    if len(sound) < len(families):
        odd = {str(getattr(family, "name", "not a family")) for family in families if family not in sound}
        raise IncompleteError(", ".join(sorted(odd)), sound)
    return families


def _can_be_encoded(family: Metric) -> bool:
    """Return whether every sample is a number, every label a string, and every series unique."""
    try:
        for sample in family.samples:
            float(sample.value)
            "".join(sample.labels.values()).encode()
        series = {(sample.name, *sorted(sample.labels.items())) for sample in family.samples}
    except (AttributeError, ArithmeticError, TypeError, ValueError):
        return False
    return len(series) == len(family.samples)
