"""Measure a scrape as Prometheus 2.42 asks for it: /metrics with 2,000 series, and the timeline of 64 workers.

Usage: python benchmarks/scrape.py [--scrapes 300]

The exporter's server, the same server with the encoder of prometheus_client, the same with an exemplar in each bucket
(OpenMetrics), and that library's own server serve the same registry, each in a process of its own. They are scraped in
turn, so that other work on the machine affects all alike. The ratio of CPU time decides whether the encoder in
`exporter/web/pages.py` still pays: at 1.3 or less it goes.
Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import requests
from machine import describe
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest, start_http_server

from exporter.timeline import NodeActivity
from exporter.web import pages
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue

SERIES = 2000
PROMETHEUS_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
WORKERS = 64
NODES = 11
VISITS_A_SECOND = 2


def make_registry(exemplar: dict[str, str] | None = None) -> CollectorRegistry:
    """Return a registry that shows 2,000 series: half gauges, half histograms of 20 series each, with an exemplar."""
    registry = CollectorRegistry()
    gauge = Gauge("benchmark_bytes", "A gauge.", ["gpu", "node"], registry=registry)
    for number in range(SERIES // 2):
        gauge.labels(number % 8, number).set(number * 1.5)
    buckets = [2.0**power for power in range(-8, 8)]
    histogram = Histogram("benchmark_seconds", "A histogram.", ["node"], buckets=buckets, registry=registry)
    for number in range(SERIES // 2 // (len(buckets) + 4)):
        for bound in buckets if exemplar else [number]:
            histogram.labels(number).observe(bound, exemplar)
    return registry


def serve_ours(ready: Queue[str], exemplar: dict[str, str] | None = None) -> None:
    """Serve with the exporter's server."""
    address = MetricsServer(make_registry(exemplar), has_exemplars=exemplar is not None).start()
    gc.collect()
    gc.freeze()  # as the exporter's command line does
    ready.put(address)
    threading.Event().wait()


def serve_exemplars(ready: Queue[str]) -> None:
    """Serve as an agent does that is traced."""
    serve_ours(ready, {"trace_id": "0af7651916cd43dd8448eb211c80319c"})


def serve_with_the_librarys_encoder(ready: Queue[str]) -> None:
    """Serve with the exporter's server, and the encoder of prometheus_client in place of our own."""
    pages.encode_text = generate_latest
    serve_ours(ready)


def serve_plain(ready: Queue[str]) -> None:
    """Serve with prometheus_client's own server."""
    server, _ = start_http_server(0, "127.0.0.1", make_registry())
    ready.put(f"127.0.0.1:{server.server_port}")
    threading.Event().wait()


def quantile(values: list[float], share: float) -> float:
    """Return a quantile of measured values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def cpu_ms(pid: int | None) -> float:
    """Return the CPU time of a process so far, in milliseconds."""
    times = psutil.Process(pid).cpu_times()
    return 1000 * (times.user + times.system)


def scrape(count: int) -> tuple[dict[str, list[float]], dict[str, float], int]:
    """Return milliseconds of each scrape and CPU milliseconds per scrape, both by server, and the number of series."""
    context = multiprocessing.get_context("spawn")
    servers: dict[str, Callable[[Queue[str]], None]] = {
        "exporter": serve_ours,
        "with exemplars": serve_exemplars,
        "with its encoder": serve_with_the_librarys_encoder,
        "prometheus_client": serve_plain,
    }
    queues = {name: context.Queue() for name in servers}
    processes = {name: context.Process(target=run, args=(queues[name],), daemon=True) for name, run in servers.items()}
    for process in processes.values():
        process.start()
    urls = {name: f"http://{queue.get(timeout=60)}/metrics" for name, queue in queues.items()}
    session = requests.Session()
    taken: dict[str, list[float]] = {name: [] for name in servers}
    for url in urls.values():
        session.get(url, timeout=10, headers=PROMETHEUS_HEADERS)
    before = {name: cpu_ms(process.pid) for name, process in processes.items()}
    try:
        for _ in range(count):
            for name, url in urls.items():
                start = time.perf_counter()
                text = session.get(url, timeout=10, headers=PROMETHEUS_HEADERS).text
                taken[name].append(1000 * (time.perf_counter() - start))
        cpu = {name: (cpu_ms(process.pid) - before[name]) / count for name, process in processes.items()}
        series = sum(not line.startswith("#") for line in text.splitlines())
    finally:
        for process in processes.values():
            process.terminate()
    return taken, cpu, series


def expose_timeline(count: int) -> tuple[list[float], int, int]:
    """Return milliseconds of each exposition, and its lines and bytes, with 64 workers on the move."""
    now_ms = 1_000_000
    activity = NodeActivity(lambda: now_ms)
    step_ms = 1000 // VISITS_A_SECOND
    for step in range(4 * VISITS_A_SECOND):
        for worker in range(WORKERS):
            activity.enter(f"w{worker}", f"node{(step + worker) % NODES}")
        now_ms += step_ms - 10
        for worker in range(WORKERS):
            activity.leave(f"w{worker}", f"node{(step + worker) % NODES}")
        now_ms += 10
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        exposition = activity.expose()
        taken.append(1000 * (time.perf_counter() - start))
    return taken, exposition.count(b"\n"), len(exposition)


def time_moves(count: int) -> float:
    """Return microseconds of one enter or leave."""
    activity = NodeActivity(lambda: time.time_ns() // 1_000_000)
    start = time.perf_counter()
    for number in range(count):
        activity.enter("w0", f"node{number % NODES}")
        activity.leave("w0", f"node{number % NODES}")
    return 1e6 * (time.perf_counter() - start) / (2 * count)


def main() -> int:
    """Print the tables; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scrapes", type=int, default=300)
    scrapes = parser.parse_args().scrapes
    print(describe("prometheus-client", "starlette", "uvicorn"))
    taken, cpu, series = scrape(scrapes)
    print(f"\n/metrics, {series} series, {scrapes} scrapes with gzip, in turn")
    print(f"{'server':<18} {'p50 ms':>8} {'p99 ms':>8} {'CPU ms':>8}")
    for name, times in taken.items():
        print(f"{name:<18} {quantile(times, 0.5):>8.1f} {quantile(times, 0.99):>8.1f} {cpu[name]:>8.1f}")
    ratio = cpu["with its encoder"] / cpu["exporter"]
    print(f"the library's encoder costs {ratio:.2f} times the CPU of ours")
    print(f"OpenMetrics with exemplars costs {cpu['with exemplars'] / cpu['exporter']:.2f} times the CPU of plain text")
    times, lines, size = expose_timeline(scrapes)
    print(f"\n/metrics/timeline, {WORKERS} workers x {NODES} nodes, {VISITS_A_SECOND} visits a second each")
    print(f"{lines} lines, {size / 1000:.0f} kB, p50 {quantile(times, 0.5):.2f} ms, p99 {quantile(times, 0.99):.2f} ms")
    print(f"one enter or leave: {time_moves(20_000):.1f} us")
    bars = {
        "p50 <= 15 ms": quantile(taken["exporter"], 0.5) <= 15,
        "p99 <= 25 ms": quantile(taken["exporter"], 0.99) <= 25,
        "our encoder pays: ratio > 1.3": ratio > 1.3,
        "timeline <= 1,000 lines": lines <= 1000,
        "timeline <= 5 ms (p50)": quantile(times, 0.5) <= 5,
    }
    print("\n" + "\n".join(f"{'met' if met else 'MISSED':<7} {bar}" for bar, met in bars.items()))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
