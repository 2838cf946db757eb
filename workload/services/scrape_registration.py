"""Has Prometheus scrape targets for the length of a block, and stop before the targets stop answering."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workload.errors import DependencyDownError
from workload.services.prometheus import PrometheusError
from workload.services.scrapes import wait_for_scrapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workload.services.prometheus import PrometheusClient
    from workload.services.targets import ArmLabels, TargetFiles

LEAVE_SECONDS = 15.0
"""Prometheus passes targets on every 5 s, twice."""

POLL_SECONDS = 0.2


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
            addresses = targets.addresses()
            targets.clear()
            wait_until_left(client, addresses)


def require_ours(targets: TargetFiles) -> None:
    """Raise `DependencyDownError` where somebody has replaced the targets that we wrote."""
    if not targets.are_ours():
        raise DependencyDownError(
            f"The targets in {targets.folder} were replaced during the run: a part of it was not recorded.",
            "Let nothing else write there, then run again.",
        )


def wait_until_left(
    client: PrometheusClient,
    addresses: Mapping[str, Sequence[str]],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Return True once Prometheus no longer scrapes these targets, or does not answer; False after 15 s."""
    left = {(job, address) for job, found in addresses.items() for address in found}
    until = clock() + LEAVE_SECONDS
    while True:
        try:
            if not left & client.scrape_errors().keys():
                return True
        except PrometheusError:
            return True
        if clock() >= until:
            return False
        sleep(POLL_SECONDS)


def wait_until_stale(
    client: PrometheusClient,
    since: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Return True once every series of a removed target has its staleness marker; False after 15 s.

    Prometheus writes the markers two scrapes after a target was removed. Stopped earlier, it writes none, and after the
    next start queries would return the series for five minutes.

    Args:
        client: Prometheus.
        since: when it was started, in seconds since the epoch; series that ended earlier are ignored.
        clock: seconds, monotonic.
        sleep: waits the given seconds.
    """
    until = clock() + LEAVE_SECONDS
    while clock() < until:
        try:
            client.query(f'timestamp(up{{job!="prometheus"}}) > {since:.3f}')
        except PrometheusError:  # no series is left, or Prometheus does not answer
            return True
        sleep(POLL_SECONDS)
    return False
