"""Measure a scrape while a call to a GPU hangs and a volume's server is gone, and a tree of thousands of processes.

    python benchmarks/hangs.py --scrapes 200 --processes 3000

The bars are those of docs/faults.md. The hangs are planted: no GPU and no network file system is needed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
from machine import describe

from exporter.gpu.replay import ReplayDevice
from exporter.host.processes import ProcessCollector, Target
from exporter.service import Config, Exporter

RECORDING = Path(__file__).parents[1] / "tests" / "fixtures" / "h200" / "prefix_caching_on" / "nvml_10ms.csv"
CROWD = """
import os, sys, time
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
print(flush=True)
sys.stdin.read()
os.killpg(0, 9)
"""


def quantile(values: list[float], share: float) -> float:
    """Return a quantile of measured values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def scrape_beside_hangs(scrapes: int) -> list[float]:
    """Return milliseconds of each scrape after the first, which waits for the volume until its deadline."""
    forever = threading.Event()
    ReplayDevice.status = lambda _: forever.wait() and None  # type: ignore[method-assign,assignment,return-value]
    psutil.disk_usage = lambda _: forever.wait()
    config = Config(port=0, replay_file=RECORDING, volumes={"results": Path("/")})
    exporter = Exporter(config)
    url = f"http://{exporter.start()}/metrics"
    taken = []
    for _ in range(scrapes + 1):
        start = time.perf_counter()
        urllib.request.urlopen(url).read()
        taken.append(1000 * (time.perf_counter() - start))
    forever.set()
    exporter.stop()
    return taken[1:]


def measure_a_crowd(processes: int, times: int = 20) -> tuple[list[float], float]:
    """Return milliseconds of each collection of a tree, and the number of processes seen."""
    command = [sys.executable, "-c", CROWD, str(processes)]
    taken = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as crowd:
        assert crowd.stdout
        crowd.stdout.readline()
        collector = ProcessCollector({"engine": Target(pid=crowd.pid)})
        for _ in range(times):
            start = time.perf_counter()
            count, *_ = collector.collect()
            taken.append(1000 * (time.perf_counter() - start))
    return taken, count.samples[0].value


def main() -> int:
    """Print both; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scrapes", type=int, default=200)
    parser.add_argument("--processes", type=int, default=3000)
    given = parser.parse_args()
    print(describe("prometheus-client", "psutil"))
    crowd, seen = measure_a_crowd(given.processes)
    print(f"\na tree of {seen:.0f} processes: p50 {quantile(crowd, 0.5):.0f} ms, most {max(crowd):.0f} ms")
    hung = scrape_beside_hangs(given.scrapes)
    print(f"a scrape beside two hangs: p50 {quantile(hung, 0.5):.1f} ms, p99 {quantile(hung, 0.99):.1f} ms")
    bars = {
        "a scrape beside hangs: p99 < 100 ms": quantile(hung, 0.99) < 100,
        "a tree: p50 < 500 ms": quantile(crowd, 0.5) < 500,
    }
    print("\n" + "\n".join(f"{'met' if met else 'MISSED':<7} {bar}" for bar, met in bars.items()))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
