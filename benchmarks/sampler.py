"""Measure the exporter's 10 ms sampler beside scrapes and loaded cores, against an empty loop in its own process.

Usage: python benchmarks/sampler.py [--seconds 60] [--idle] [--nice 0]

The exporter runs as its command line runs it, over a recording; the instant of every memory read is noted inside it.
The empty loop, the same absolute deadlines with nothing in them, runs at the same time: what it misses, the machine
took. Unless --idle is given, one busy process per core runs beside them. A scrape of /metrics and of
/metrics/timeline comes every second. `--nice -5` measures both loops as the systemd unit runs the exporter (as root).
Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests
from machine import describe

from exporter import cli
from exporter.gpu.latest import Clock
from exporter.gpu.replay import ReplayDevice
from exporter.gpu.sampler import SAMPLE_INTERVAL_SECONDS, Ticks

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDING = Path(__file__).parents[1] / "tests" / "fixtures" / "h200" / "prefix_caching_on" / "nvml_10ms.csv"
ADDRESS = "127.0.0.1:18310"
START_SECONDS = 60.0
WARM_UP_SECONDS = 2.0
EDGE_TICKS = 500
PHASE_STEP_MS = 0.05
BURN = "while True: pass"


@dataclass(frozen=True)
class Loop:
    """What one loop achieved: instants of its ticks in seconds, and CPU seconds of its thread and its process."""

    ticks: list[float]
    thread_cpu: float
    process_cpu: float

    @property
    def seconds(self) -> float:
        """From the first tick to the last."""
        return self.ticks[-1] - self.ticks[0]

    @property
    def hertz(self) -> float:
        """Ticks a second."""
        return (len(self.ticks) - 1) / self.seconds

    def gap_ms(self, quantile: float) -> float:
        """A quantile of the time between ticks."""
        gaps = sorted(later - earlier for earlier, later in pairwise(self.ticks))
        return 1000 * gaps[min(len(gaps) - 1, int(quantile * len(gaps)))]

    def drift_ms_a_minute(self) -> float:
        """How far the grid moved between the first and the last five seconds; late ticks do not count as drift."""
        edge = min(EDGE_TICKS, len(self.ticks) // 2)
        moved = phase_ms(self.ticks[-edge:]) - phase_ms(self.ticks[:edge])
        interval_ms = 1000 * SAMPLE_INTERVAL_SECONDS
        return ((moved + interval_ms / 2) % interval_ms - interval_ms / 2) * 60 / self.seconds


def phase_ms(ticks: list[float]) -> float:
    """Return where on the grid most ticks lie: the most frequent remainder, in steps of 0.05 ms."""
    remainders = Counter(round(tick % SAMPLE_INTERVAL_SECONDS * 1000 / PHASE_STEP_MS) for tick in ticks)
    return remainders.most_common(1)[0][0] * PHASE_STEP_MS


def run_exporter(output: Path) -> None:
    """Be the exporter until SIGTERM, then write the instants of its memory reads."""
    ticks: list[tuple[float, float]] = []
    read: Callable[[ReplayDevice], Any] = ReplayDevice.memory

    def noted(device: ReplayDevice) -> Any:
        ticks.append((time.monotonic(), time.thread_time()))
        return read(device)

    ReplayDevice.memory = noted  # type: ignore[method-assign,assignment]
    cli.main(["--nvml.replay-file", str(RECORDING), "--web.listen-address", ADDRESS, "--log.level", "warning"])
    output.write_text(json.dumps(ticks))


def run_empty_loop(output: Path) -> None:
    """Tick until SIGTERM, then write the instants."""
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    ticks: list[tuple[float, float]] = []
    deadlines = Ticks(SAMPLE_INTERVAL_SECONDS, Clock())
    while running:
        deadlines.wait()
        ticks.append((time.monotonic(), time.thread_time()))
    output.write_text(json.dumps(ticks))


def measure(seconds: float, *, is_loaded: bool, nice: int) -> tuple[Loop, Loop]:
    """Return what the exporter and the empty loop achieved over `seconds`."""
    folder = Path(tempfile.mkdtemp())
    outputs = [folder / "exporter.json", folder / "empty.json"]
    roles = ("--be-exporter", "--be-empty")
    children = [
        subprocess.Popen([sys.executable, __file__, role, str(output)])
        for role, output in zip(roles, outputs, strict=True)
    ]
    burners: list[subprocess.Popen[bytes]] = []
    session = requests.Session()
    try:
        for child in children:
            os.setpriority(os.PRIO_PROCESS, child.pid, nice)
        wait_until_ready(session)
        if is_loaded:
            burners += [subprocess.Popen([sys.executable, "-c", BURN]) for _ in os.sched_getaffinity(0)]
        time.sleep(WARM_UP_SECONDS)
        start = time.monotonic()
        before = [process_seconds(child.pid) for child in children]
        while time.monotonic() < start + seconds:
            for page in ("/metrics", "/metrics/timeline"):
                session.get(f"http://{ADDRESS}{page}", timeout=10).raise_for_status()
            time.sleep(1 - (time.monotonic() - start) % 1)
        end = time.monotonic()
        cpu = [process_seconds(child.pid) - early for child, early in zip(children, before, strict=True)]
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for burner in burners:
            burner.kill()
        for process in [*children, *burners]:
            process.wait(30)
    exporter, empty = (read_loop(path, start, end, spent) for path, spent in zip(outputs, cpu, strict=True))
    return exporter, empty


def wait_until_ready(session: requests.Session) -> None:
    """Wait for the exporter's first sample."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if "nvml_up 1" in session.get(f"http://{ADDRESS}/metrics", timeout=10).text:
                return
        except requests.ConnectionError:
            assert time.monotonic() < end, "the exporter did not start"
        time.sleep(0.2)


def process_seconds(pid: int) -> float:
    """Return CPU seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def read_loop(path: Path, start: float, end: float, process_cpu: float) -> Loop:
    """Return the ticks between two instants."""
    ticks = [(at, cpu) for at, cpu in json.loads(path.read_text()) if start <= at <= end]
    return Loop([at for at, _ in ticks], ticks[-1][1] - ticks[0][1], process_cpu)


def main() -> int:
    """Print the table; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    machine = describe("prometheus-client", "uvicorn")
    exporter, empty = measure(arguments.seconds, is_loaded=not arguments.idle, nice=arguments.nice)
    load = "no load" if arguments.idle else "every core loaded"
    print(f"{machine}\n{arguments.seconds:.0f} s, {load}, nice {arguments.nice}, a scrape of each page a second\n")
    print(
        f"{'':<12} {'Hz':>8} {'gap p50':>8} {'p99':>8} {'max ms':>8} {'drift ms/min':>13} {'thread':>8} {'process':>8}"
    )
    for name, loop in (("exporter", exporter), ("empty loop", empty)):
        gaps = f"{loop.gap_ms(0.5):>8.2f} {loop.gap_ms(0.99):>8.2f} {loop.gap_ms(1.0):>8.2f}"
        cpu = f"{loop.thread_cpu / loop.seconds:>8.2%} {loop.process_cpu / loop.seconds:>8.2%}"
        print(f"{name:<12} {loop.hertz:>8.3f} {gaps} {loop.drift_ms_a_minute():>13.3f} {cpu}")
    bars = {
        "100 +- 0.5 Hz": abs(exporter.hertz - 100) <= 0.5,
        "p99 gap <= 1.2 x the empty loop's": exporter.gap_ms(0.99) <= 1.2 * empty.gap_ms(0.99),
        "drift < 1 ms a minute": abs(exporter.drift_ms_a_minute()) < 1,
        "sampling thread <= 1 % of a core": exporter.thread_cpu / exporter.seconds <= 0.01,
    }
    print("\n" + "\n".join(f"{'met' if met else 'MISSED':<7} {bar}" for bar, met in bars.items()))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    if "--be-exporter" in sys.argv:
        run_exporter(Path(sys.argv[2]))
    elif "--be-empty" in sys.argv:
        run_empty_loop(Path(sys.argv[2]))
    else:
        sys.exit(main())
