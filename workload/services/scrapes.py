"""Waits for Prometheus: finds the instant by which every target of an arm was scraped after an event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from workload.promql.selectors import selector
from workload.services.prometheus import NoDataError, PrometheusError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.services.prometheus import PrometheusClient, Series
    from workload.services.targets import ArmLabels

POLL_SECONDS = 0.1
AHEAD_SECONDS = 3600.0
"""How far past `after` to look for samples, so that the wait needs no wall clock of its own."""


def wait_for_scrapes(
    client: PrometheusClient,
    labels: ArmLabels,
    targets: Mapping[str, Sequence[str]],
    after: float,
    *,
    timeout_s: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Wait until every target (job -> `host:port` list) stored a successful scrape begun after `after`.

    A sample's timestamp is the start of its scrape, so a scrape later than `after` contains everything its target had
    counted by then. Returns the latest of the targets' first such scrapes (seconds since the epoch): at that instant
    every counter's value was scraped after `after`. This fits both ends of a window: the start (`after` is the end of
    the warm-up, and nothing is sent until this returns) and the end (`after` is when the load has settled).

    Prometheus takes up to 5 s to notice new labels.

    Raises:
        PrometheusError: a target had no such scrape within `timeout_s`; the message names it.
    """
    wanted = [(job, address) for job, addresses in targets.items() for address in addresses]
    deadline = clock() + timeout_s
    while True:
        first = _first_scrapes(client, labels, after)
        missing = [target for target in wanted if target not in first]
        if not missing:
            return max(first[target] for target in wanted)
        if clock() >= deadline:
            errors = client.scrape_errors()
            named = "; ".join(f"{' '.join(target)} ({errors.get(target) or 'not scraped'})" for target in missing)
            raise PrometheusError(
                f"Prometheus stored no scrape of these targets within {timeout_s:g} s: {named}.",
                f"Start them, or see {client.url}/targets.",
            )
        sleep(POLL_SECONDS)


def _first_scrapes(client: PrometheusClient, labels: ArmLabels, after: float) -> dict[tuple[str, str], float]:
    try:
        found = client.raw(selector("up", labels.as_dict()), after, after + AHEAD_SECONDS)
    except NoDataError:
        return {}
    return {
        (series.labels["job"], series.labels["instance"]): instant
        for series in found
        if (instant := _first_success(series, after)) is not None
    }


def _first_success(series: Series, after: float) -> float | None:
    good = series.times[(series.values == 1.0) & (series.times > after)]
    return float(np.min(good)) if good.size else None
