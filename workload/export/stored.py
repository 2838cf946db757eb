"""Finds the Prometheus that has a run's series: the one named, the one that is up, or our own, started on its data."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from workload.paths import cache_dir
from workload.promql.selectors import selector
from workload.services.process import HOST
from workload.services.prometheus import NoDataError, PrometheusClient
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workload.record.results import Measured


@contextmanager
def prometheus_of_runs(url: str | None, port: int) -> Iterator[PrometheusClient]:
    """Yield a client of the Prometheus at `url`, else of the one on `port` of 127.0.0.1.

    A Prometheus that is up is never reconfigured, because it may be recording a run. If none is up, our own is started
    on its stored data and stopped at the end.

    Raises:
        MissingPartError: none is up, and Prometheus is not installed.
        DependencyDownError: it did not start.
    """
    named = PrometheusClient(url or f"http://{HOST}:{port}", loopback_session())
    if url or named.ready():
        yield named
        return
    cache = cache_dir()
    with LocalPrometheus(find_prometheus(cache), cache, loopback_session(), port=port) as own:
        yield own.client


def has_run(client: PrometheusClient, run: str, measured: Sequence[Measured]) -> bool:
    """Return whether Prometheus still has the first and the last window of a run.

    Raises:
        PrometheusError: Prometheus failed.
    """
    up = selector("up", {"run": run})
    try:
        for part in (measured[0], measured[-1]):
            client.raw(up, part.window.start, part.window.end)
    except NoDataError:
        return False
    return True
