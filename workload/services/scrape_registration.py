"""What Prometheus scrapes for the length of a block: told, waited for, and taken away before it stops answering."""

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
    told: Mapping[str, Sequence[str]],
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Mapping[str, Sequence[str]]]:
    """Have Prometheus scrape these targets from the start of the block to its end; yield them as it names them.

    What is scraped must answer until the block has been left: a target that stops first is an alert that is false.

    Args:
        targets: the files that Prometheus reads; claimed by us.
        client: Prometheus.
        labels: what places the series.
        told: job (vllm, exporter, workload) -> its targets, as `TargetFiles.write` wants them.
        meanwhile: called while Prometheus takes notice.

    Raises:
        PrometheusError: one of them is not scraped.
        DependencyDownError: at the end other targets stand in our place, so an unknown part was not recorded.
    """
    targets.write(labels, **told)
    addresses = targets.addresses()
    with leaving(targets, client):
        meanwhile()
        wait_for_scrapes(client, labels, addresses, time.time())
        yield addresses


@contextmanager
def leaving(targets: TargetFiles, client: PrometheusClient) -> Iterator[None]:
    """Have Prometheus scrape nothing of ours any more, at the end of the block, before what is scraped may stop.

    Raises:
        DependencyDownError: at the end other targets stand in the place of what we wrote last.
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
            f"The targets in {targets.folder} were replaced while the run needed them: a part of it was not recorded.",
            "Let nothing else write there, then run it again.",
        )


def wait_until_left(
    client: PrometheusClient,
    addresses: Mapping[str, Sequence[str]],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Return True once Prometheus scrapes none of these targets any more; False if it still did after 15 s.

    A Prometheus that does not answer scrapes nothing that would matter.
    """
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
    """Return True once every series of a target that has left is marked as ended; False if one was not after 15 s.

    Prometheus writes the marks two scrapes after a target has left, and none when it is stopped before: whoever starts
    it again would find the series alive for five minutes.

    Args:
        client: Prometheus.
        since: when it was started, in seconds since the epoch; what ended before is not waited for.
        clock: seconds, monotonic.
        sleep: waits the given seconds.
    """
    until = clock() + LEAVE_SECONDS
    while clock() < until:
        try:
            client.query(f'timestamp(up{{job!="prometheus"}}) > {since:.3f}')
        except PrometheusError:  # there is none, or Prometheus does not answer
            return True
        sleep(POLL_SECONDS)
    return False
