"""Has Prometheus scrape targets for the length of a block that ends before they do, and waits for their scrapes."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from workload.errors import DependencyDownError
from workload.promql.scrapes import scraped_since
from workload.promql.selectors import selector
from workload.services.prometheus import NoDataError, PrometheusClient, PrometheusError
from workload.services.targets import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workload.services.targets import ArmLabels, TargetFiles

LEAVE_SECONDS = 15.0
"""Prometheus passes targets on every 5 s, twice."""

POLL_SECONDS = 0.2
SAMPLE_POLL_SECONDS = 0.1
AHEAD_SECONDS = 3600.0
"""How far past `after` to look for samples, so that the wait needs no wall clock of its own."""


@contextmanager
def scraped(
    targets: TargetFiles,
    client: PrometheusClient,
    labels: ArmLabels,
    wanted: Mapping[str, Sequence[str]],
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Mapping[str, Sequence[str]]]:
    """Have Prometheus scrape these targets while the block lasts; yield them by job, with Prometheus' instance names.

    The targets must answer until the block has ended: one that stops earlier causes a false alert.

    Args:
        targets: the files that Prometheus reads; this command holds their lock.
        client: Prometheus.
        labels: the labels of the series.
        wanted: job (vllm, exporter, workload) -> its targets, as for `TargetFiles.write`.
        meanwhile: called while Prometheus reads the files.

    Raises:
        PrometheusError: a target is not scraped.
        DependencyDownError: the files were replaced, so an unknown part of the block was not recorded.
    """
    targets.write(labels, **wanted)
    addresses = targets.addresses()
    with leaving(targets, client):
        meanwhile()
        wait_for_scrapes(client, labels, addresses, time.time())
        yield addresses


@contextmanager
def leaving(targets: TargetFiles, client: PrometheusClient) -> Iterator[None]:
    """At the end of the block, have Prometheus stop scraping our targets, and wait until it has.

    Raises:
        DependencyDownError: the files were replaced since we wrote them.
    """
    try:
        yield
        require_ours(targets)
    finally:
        if targets.are_ours():
            stop_scraping(targets, client)


def require_ours(targets: TargetFiles) -> None:
    """Raise `DependencyDownError` where somebody has replaced the targets that we wrote."""
    if not targets.are_ours():
        raise DependencyDownError(
            f"The targets in {targets.folder} were replaced during the run: a part of it was not recorded.",
            "Let nothing else write there, then run again.",
        )


def stop_scraping(targets: TargetFiles, client: PrometheusClient) -> None:
    """Remove all targets; return once Prometheus no longer scrapes them or does not answer, after at most 15 s."""
    removed = {
        (name, address) for job, found in targets.addresses().items() for address in found for name in (job, JOBS[job])
    }
    targets.clear()
    until = time.monotonic() + LEAVE_SECONDS
    with suppress(PrometheusError):
        while removed & client.scrape_errors().keys() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)


def wait_until_stale(client: PrometheusClient, since: float) -> None:
    """Return once every series of a removed target has its staleness marker, at the latest after 15 s.

    Prometheus writes the markers two scrapes after a target was removed. Stopped earlier, it writes none, and after the
    next start queries would return the series for five minutes.

    `since` is when it was started, in seconds since the epoch; series that ended earlier are ignored.
    """
    until = time.monotonic() + LEAVE_SECONDS
    with suppress(PrometheusError):  # no series is left, or Prometheus does not answer
        while time.monotonic() < until:
            client.query(scraped_since(since))
            time.sleep(POLL_SECONDS)


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
        sleep(SAMPLE_POLL_SECONDS)


def _first_scrapes(client: PrometheusClient, labels: ArmLabels, after: float) -> dict[tuple[str, str], float]:
    try:
        found = client.raw(selector("up", labels.as_dict()), after, after + AHEAD_SECONDS)
    except NoDataError:
        return {}
    return {
        (series.labels["job"], series.labels["instance"]): float(good.min())
        for series in found
        if (good := series.times[(series.values == 1.0) & (series.times > after)]).size
    }
