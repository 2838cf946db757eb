"""Find every 10 ms sample again in a real Prometheus, and see what a plain gauge keeps of a known 1 GB swing.

Usage: python benchmarks/timeline_roundtrip.py [--seconds 60]

The exporter plays a recording in which memory rises by 1 GB for 150 ms every 3.1 s. A process of the plain client sets
a gauge from the same recording every 10 ms. Prometheus, with the configuration we ship, scrapes both every second.
What it stored is counted by PromQL and compared with the exporter's raw log. Exit code 1 if a sample is missing.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from machine import describe
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from exporter.gpu.latest import Clock
from exporter.gpu.readings import Memory
from exporter.gpu.replay import COLUMNS, ReplayReader, read_traces
from exporter.gpu.sampler import SAMPLE_INTERVAL_SECONDS, Ticks
from workload.paths import cache_dir
from workload.services.prometheus import NoDataError
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from workload.services.prometheus import PrometheusClient

BASE_BYTES = 50_000_000_000
SWING_BYTES = 1_000_000_000
PERIOD_MS = 3_100  # no multiple of the scrape interval, or a gauge would see every swing or none
HIGH_MS = 150
EXPORTER, PLAIN, PROMETHEUS_PORT = "127.0.0.1:18320", "127.0.0.1:18321", 18322
SETTLE_SECONDS = 15.0
TIMELINE = 'nvml_timeline_memory_used_bytes{job="exporter-timeline"}'
SOURCES = {
    "timeline, 10 ms": TIMELINE,
    "exporter's gauge": 'nvml_memory_used_bytes{job="exporter"}',
    "plain gauge": 'plain_memory_used_bytes{job="workload"}',
}


def write_swing(path: Path) -> None:
    """Write one period of the swing as a recording."""
    rows = [
        f"{ms},{BASE_BYTES + SWING_BYTES * (ms < HIGH_MS)}{',' * (len(COLUMNS) - 2)}\n"
        for ms in range(0, PERIOD_MS + 1, 10)
    ]
    path.write_text(",".join(COLUMNS) + "\n" + "".join(rows))


def serve_plain_gauge(recording: Path) -> None:
    """Set a gauge of the plain client every 10 ms, for ever."""
    registry = CollectorRegistry()
    gauge = Gauge("plain_memory_used_bytes", "The same memory, as a gauge.", registry=registry)
    start_http_server(int(PLAIN.rpartition(":")[2]), "127.0.0.1", registry)
    (device,) = ReplayReader(recording).open()
    deadlines = Ticks(SAMPLE_INTERVAL_SECONDS, Clock())
    while True:
        deadlines.wait()
        gauge.set(device.memory().used)


def logged(folder: Path, start: float, end: float) -> list[tuple[int, int]]:
    """Return (time in ms, bytes) of the raw log's rows from `start` to `end`, both included."""
    frames = [frame for path in folder.glob("nvml_*.csv") for frame in read_traces(path)["0"]]
    return [
        (round(frame.ts_ms), frame.memory.used)
        for frame in frames
        if round(1000 * start) <= frame.ts_ms <= round(1000 * end) and isinstance(frame.memory, Memory)
    ]


def ask(client: PrometheusClient, promql: str, at: float) -> float:
    """Return one value; nothing stored is NaN."""
    try:
        return client.query(promql, at)[0].value
    except NoDataError:
        return math.nan


def compare(client: PrometheusClient, folder: Path, seconds: int, end: float) -> bool:
    """Print what Prometheus has of the last `seconds` before `end`; return whether it has every sample."""
    rows = logged(folder, end - seconds, end)
    found = ask(client, f"count_over_time({TIMELINE}[{seconds}s])", end)
    (series,) = client.raw(TIMELINE, end - seconds, end)
    stored = [(round(1000 * at), int(value)) for at, value in zip(series.times, series.values, strict=True)]
    print(f"\nraw log {len(rows)} samples, count_over_time {found:.0f}: {found / len(rows):.2%} found again")
    print(f"equal to the raw log, time and value: {sum(row in set(rows) for row in stored)} of {len(stored)}")
    swings = sum(late > early for (_, early), (_, late) in pairwise(rows))
    print(f"\n{swings} swings of {SWING_BYTES / 1e9:.0f} GB for {HIGH_MS} ms in {seconds} s, as each source tells it")
    print(f"{'source':<18} {'samples':>8} {'max - min GB':>13} {'swings seen':>12}")
    for name, selector in SOURCES.items():
        count = ask(client, f"count_over_time({selector}[{seconds}s])", end)
        height = ask(client, f"max_over_time({selector}[{seconds}s]) - min_over_time({selector}[{seconds}s])", end)
        seen = ask(client, f"changes({selector}[{seconds}s]) / 2", end)
        print(f"{name:<18} {count:>8.0f} {height / 1e9:>13.2f} {seen:>12.1f}")
    repeated = ask(client, "prometheus_target_scrapes_sample_out_of_order_total", end + 2)
    print(f"\nsent again and stored once (prometheus_target_scrapes_sample_out_of_order_total): {repeated:.0f}")
    return stored == rows and found == len(rows)


def main() -> int:
    """Run everything; return 1 if a sample is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    folder = Path(tempfile.mkdtemp())
    write_swing(folder / "swing.csv")
    binary = find_prometheus(cache_dir())
    session = loopback_session()
    prometheus = LocalPrometheus(binary, folder, session, port=PROMETHEUS_PORT)
    exporter_argv = [
        *(sys.executable, "-m", "exporter.cli", "--nvml.replay-file", str(folder / "swing.csv")),
        *("--web.listen-address", EXPORTER, "--raw-log.directory", str(folder), "--log.level", "warning"),
    ]
    machine = describe("prometheus-client", "uvicorn")
    children = [
        subprocess.Popen(exporter_argv),
        subprocess.Popen([sys.executable, __file__, "--be-plain", str(folder / "swing.csv")]),
    ]
    try:
        with prometheus:
            prometheus.targets.write(
                ArmLabels("benchmark", "roundtrip", "swing"), exporter=[EXPORTER], workload=[PLAIN]
            )
            time.sleep(SETTLE_SECONDS + seconds)
            end = time.time()
            time.sleep(4)  # the last samples before `end` are scraped, and logged, by then
            version = ".".join(map(str, binary.version))
            print(f"{machine}, Prometheus {version}")
            is_complete = compare(prometheus.client, folder, seconds, end)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)
    print(f"\n{'met' if is_complete else 'MISSED':<7} 100 % of 10 ms samples found again")
    return 0 if is_complete else 1


if __name__ == "__main__":
    if "--be-plain" in sys.argv:
        serve_plain_gauge(Path(sys.argv[2]))
    else:
        sys.exit(main())
