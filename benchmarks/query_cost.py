"""How long a dashboard takes: all its panels over fifteen minutes, at a thousand points, asked of a real Prometheus.

Usage: python benchmarks/query_cost.py [--rounds 20] [--gpus 1] [--servers 1] [--slowest 5] [DASHBOARD ...]
       python benchmarks/query_cost.py --against REF [--rounds 20]

Prometheus is filled by `fill`, with its rules. A round asks every query of a dashboard, its variables at "All", over
six connections, as many as a browser opens to one server; its time is that to the last answer's last byte. Exit code 1
if the 95th percentile of a dashboard is over 300 ms.

With --against, rounds of what opens first on the overview alternate with rounds of the whole overview as a commit of
this repository has it, collapsed rows included. Exit code 1 if the median of the first is over 1.3 times the other's.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fill import START, Fill, serving
from machine import describe

from workload.dashboards.catalogue import DASHBOARDS
from workload.export.panel_series import MAX_POINTS, SCRAPE_SECONDS, STEPS, TimeRange, finest_of, is_instant, step_of
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
BAR_RATIO = 1.3
OVERVIEW = "hop2rag-overview"
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
    return _form(
        f"{panel.title}: {line.query.name}",
        line.query.grafana(),
        span,
        None if is_instant(panel, line) else step,
        rate_interval(step, finest_of(panel, line)),
    )


def _form(title: str, expression: str, span: TimeRange, step: float | None, window: str) -> Asked:
    """Return a query with its variables at "All"; without a step it is asked once, at the end."""
    promql = expression.replace(RATE_INTERVAL, window).replace("$job", "vllm").replace("$baseline", "base")
    promql = promql.replace("$__interval", f"{round((step or 1) * 1000)}ms")
    promql = re.sub(r"\$\w+", ".*", promql.replace(RANGE, f"{round(span.seconds)}s"))
    if step is None:
        return Asked(title, "query", {"query": promql, "time": str(span.end)})
    return Asked(
        title, "query_range", {"query": promql, "start": str(span.start), "end": str(span.end), "step": str(step)}
    )


def committed(ref: str, span: TimeRange) -> list[Asked]:
    """Return every query of the overview as commit `ref` has it, collapsed rows included."""
    path = "grafana/dashboards/overview.json"
    shown = subprocess.run(
        (shutil.which("git") or "git", "show", f"{ref}:{path}"), capture_output=True, text=True, check=False
    )
    if shown.returncode:
        sys.exit(f"{path} at {ref}: {shown.stderr.strip()}")
    panels = json.loads(shown.stdout)["panels"]
    panels = [one for panel in panels for one in (panel, *panel.get("panels", ()))]
    return [_committed(panel, target, span) for panel in panels for target in panel.get("targets", ())]


def _committed(panel: dict[str, Any], target: dict[str, Any], span: TimeRange) -> Asked:
    finest = STEPS.get(target.get("interval") or panel.get("interval", ""), SCRAPE_SECONDS)
    step = max(finest, round(span.seconds / MAX_POINTS, 3))
    window = rate_interval(step, finest)
    return _form(panel["title"], target["expr"], span, None if target.get("instant") else step, window)


def fetch(session: requests.Session, url: str, asked: Asked) -> tuple[float, int]:
    """Ask, and return the seconds to the last byte and the bytes of the answer."""
    start = time.perf_counter()
    response = session.post(f"{url}/api/v1/{asked.endpoint}", data=asked.form, timeout=60)
    seconds = time.perf_counter() - start
    response.raise_for_status()
    return seconds, len(response.content)


def rounds_of(url: str, rounds: int, *dashboards: Sequence[Asked]) -> list[list[float]]:
    """Return the seconds of each round per dashboard, without those that warm caches up; dashboards alternate."""
    sessions = [loopback_session() for _ in range(CONNECTIONS)]

    def ask(session: requests.Session, waiting: Iterator[Asked]) -> None:
        for query in waiting:  # an iterator over a list may be shared: each query is taken once
            fetch(session, url, query)

    found: list[list[float]] = [[] for _ in dashboards]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in range(WARM_UP_ROUNDS + rounds):
            for queries, seconds in zip(dashboards, found, strict=True):
                waiting = iter(queries)
                start = time.perf_counter()
                list(pool.map(ask, sessions, [waiting] * CONNECTIONS))
                seconds.append(time.perf_counter() - start)
    return [seconds[WARM_UP_ROUNDS:] for seconds in found]


def compare(url: str, ref: str, span: TimeRange, rounds: int) -> int:
    """Print what opens first and all of the overview of `ref`; return 1 if their ratio is over the bar."""
    ours = asked_of(next(each for each in DASHBOARDS if each.uid == OVERVIEW), span)
    theirs = committed(ref, span)
    seconds = rounds_of(url, rounds, ours, theirs)
    for name, queries, found in zip(("opens first", f"whole at {ref}"), (ours, theirs), seconds, strict=True):
        p50, p95 = np.percentile(np.array(found) * 1000, [50, 95])
        print(f"{name:<16} {len(queries):>7} {p50:>7.0f} {p95:>7.0f} {max(found) * 1000:>7.0f}")
    ratio = statistics.median(seconds[0]) / statistics.median(seconds[1])
    pairs = [one / other for one, other in zip(*seconds, strict=True)]
    low, high = np.percentile(pairs, [5, 95])
    print(f"ratio of the medians {ratio:.2f}; of pairs of rounds, 5 % to 95 %: {low:.2f} to {high:.2f}")
    print(f"{'MISSED' if ratio > BAR_RATIO else 'met':<7} ratio <= {BAR_RATIO}")
    return int(ratio > BAR_RATIO)


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
    parser.add_argument("--against", metavar="REF", help="compare the overview with that of this commit")
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
        if flags.against:
            return compare(client.url, flags.against, span, flags.rounds)
        slow = []
        for dashboard in (each for each in DASHBOARDS if each.uid in flags.dashboards):
            queries = asked_of(dashboard, span)
            found = np.array(rounds_of(client.url, flags.rounds, queries)[0]) * 1000
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
