"""How long a dashboard takes: all its panels over fifteen minutes, at a thousand points, asked of a real Prometheus.

Usage: python benchmarks/query_cost.py [--rounds 20] [--gpus 1] [--servers 1] [--slowest 5] [DASHBOARD ...]

Prometheus is filled by `fill`, with its rules. A round asks every query of a dashboard, its variables at "All", over
six connections, as many as a browser opens to one server; its time is that to the last answer's last byte. Exit code 1
if the 95th percentile of a dashboard is over 300 ms.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from fill import START, Fill, serving
from machine import describe

from workload.dashboards.catalogue import DASHBOARDS
from workload.export.panel_series import TimeRange, finest_of, is_instant, step_of
from workload.paths import cache_dir
from workload.promql.query import RANGE, RATE_INTERVAL, rate_interval
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import loopback_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import requests

    from workload.dashboards.catalogue import Dashboard
    from workload.panels.panel import Line, Panel

BAR_SECONDS = 0.3
CONNECTIONS = 6
WARM_UP_ROUNDS = 2


@dataclass(frozen=True)
class Asked:
    """A query as Grafana sends it."""

    title: str
    endpoint: str
    form: dict[str, str]


def asked_of(dashboard: Dashboard, span: TimeRange) -> list[Asked]:
    """Return the queries of a dashboard that are asked when it is opened."""
    return [
        _asked(panel, line, span)
        for row in dashboard.rows
        if row.is_open
        for panel in row.panels
        for line in panel.lines
    ]


def _asked(panel: Panel, line: Line, span: TimeRange) -> Asked:
    step = step_of(panel, span)
    promql = line.query.grafana().replace(RATE_INTERVAL, rate_interval(step, finest_of(panel, line)))
    promql = promql.replace("$job", "vllm").replace("$baseline", "base")
    promql = re.sub(r"\$\w+", ".*", promql.replace(RANGE, f"{round(span.seconds)}s"))
    title = f"{panel.title}: {line.query.name}"
    if is_instant(panel, line):
        return Asked(title, "query", {"query": promql, "time": str(span.end)})
    return Asked(
        title, "query_range", {"query": promql, "start": str(span.start), "end": str(span.end), "step": str(step)}
    )


def fetch(session: requests.Session, url: str, asked: Asked) -> tuple[float, int]:
    """Ask, and return the seconds to the last byte and the bytes of the answer."""
    start = time.perf_counter()
    response = session.post(f"{url}/api/v1/{asked.endpoint}", data=asked.form, timeout=60)
    seconds = time.perf_counter() - start
    response.raise_for_status()
    return seconds, len(response.content)


def rounds_of(url: str, queries: Sequence[Asked], rounds: int) -> list[float]:
    """Return the seconds of each round, without those that warm caches up."""
    sessions = [loopback_session() for _ in range(CONNECTIONS)]

    def ask(session: requests.Session, waiting: Iterator[Asked]) -> None:
        for query in waiting:  # an iterator over a list may be shared: each query is taken once
            fetch(session, url, query)

    found = []
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in range(WARM_UP_ROUNDS + rounds):
            waiting = iter(queries)
            start = time.perf_counter()
            list(pool.map(ask, sessions, [waiting] * CONNECTIONS))
            found.append(time.perf_counter() - start)
    return found[WARM_UP_ROUNDS:]


def show_slowest(url: str, queries: Sequence[Asked], count: int) -> None:
    """Print the queries that take longest when they are asked alone, median of five."""
    session = loopback_session()
    alone = [(statistics.median(fetch(session, url, query)[0] for _ in range(5)), query) for query in queries]
    for seconds, query in sorted(alone, key=lambda one: -one[0])[:count]:
        _, size = fetch(session, url, query)
        print(f"    {seconds * 1000:6.1f} ms {size / 1000:7.0f} kB  {query.title}")


def main() -> int:
    """Fill a Prometheus, measure, print the table; return 1 if a dashboard is over the bar."""
    parser = argparse.ArgumentParser()
    uids = [dashboard.uid for dashboard in DASHBOARDS]
    parser.add_argument("dashboards", nargs="*", default=uids, metavar="DASHBOARD", help=", ".join(uids))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--slowest", type=int, default=0)
    flags = parser.parse_args()
    if unknown := sorted(set(flags.dashboards) - set(uids)):  # a table of none would meet every bar
        parser.error(f"no dashboard {unknown[0]}; there are {', '.join(uids)}")
    fill = Fill(flags.seconds, flags.gpus, flags.servers)
    span = TimeRange(START, fill.end)
    binary = find_prometheus(cache_dir())
    machine = describe("requests")
    with tempfile.TemporaryDirectory() as folder, serving(fill, binary, Path(folder)) as client:
        (series,) = client.query('count({__name__=~".+"})', START + fill.seconds // 4)
        print(f"{machine}, Prometheus {client.version()}")
        print(f"{fill.seconds} s, {fill.servers} servers, {fill.gpus} GPUs each, {series.value:.0f} series at a time")
        print(f"{'dashboard':<16} {'queries':>7} {'p50 ms':>7} {'p95 ms':>7} {'max ms':>7}")
        slow = []
        for dashboard in (each for each in DASHBOARDS if each.uid in flags.dashboards):
            queries = asked_of(dashboard, span)
            found = np.array(rounds_of(client.url, queries, flags.rounds)) * 1000
            p50, p95 = np.percentile(found, [50, 95])
            print(f"{dashboard.uid:<16} {len(queries):>7} {p50:>7.0f} {p95:>7.0f} {found.max():>7.0f}", flush=True)
            slow += [dashboard.uid] if p95 > BAR_SECONDS * 1000 else []
            if flags.slowest:
                show_slowest(client.url, queries, flags.slowest)
    bar = f"p95 of {flags.rounds} rounds <= {BAR_SECONDS * 1000:.0f} ms"
    print(f"{'MISSED' if slow else 'met':<7} {bar}" + (f": not {', '.join(slow)}" if slow else ""))
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
