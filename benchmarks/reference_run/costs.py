"""Measure what the exporter costs here: each reading of the GPU, a scrape beside nvitop-exporter's, the sampler's gaps.

Usage: python costs.py [--seconds 30] [--replay FILE] [--raw-log FOLDER ...]

Without --replay the GPU is the real one. A folder given with --raw-log holds the raw log of an earlier run, sampled
beside its load. What cannot be run here is said, and left out.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import requests
from prometheus_client.parser import text_string_to_metric_families

from exporter.errors import ActionableError
from exporter.gpu.nvml import NvmlReader
from exporter.gpu.readings import GpuError
from exporter.gpu.replay import ReplayReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.gpu.readings import GpuDevice

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import describe

READINGS = ("memory", "utilization", "busy_time", "status", "pcie", "processes")
CALLS, SLOW_SECONDS = 300, 3.0
START_SECONDS = 30.0


@dataclass(frozen=True)
class Rival:
    """What an exporter took while it was scraped once a second."""

    name: str
    scrape_ms: Sequence[float]
    cpu_share: float
    resident_bytes: int
    series: int


def time_readings(device: GpuDevice) -> Iterator[tuple[str, list[float]]]:
    """Yield the microseconds of each call of each reading; at most `CALLS`, or `SLOW_SECONDS` of a slow one."""
    for name in READINGS:
        taken: list[float] = []
        end = time.monotonic() + SLOW_SECONDS
        while len(taken) < CALLS and time.monotonic() < end:
            start = time.perf_counter()
            getattr(device, name)()
            taken.append(1e6 * (time.perf_counter() - start))
        yield name, taken


def measure(name: str, argv: Sequence[str], port: int, seconds: float) -> Rival:
    """Return what an exporter takes.

    Raises:
        RuntimeError: it ended, or did not answer; with its last words.
    """
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}/metrics"
            session = requests.Session()
            session.trust_env = False
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    session.get(url, timeout=5).raise_for_status()
                    break
                except requests.RequestException as error:
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        raise RuntimeError(log.read().strip().rpartition("\n")[2] or str(error)) from error
                    time.sleep(0.2)
            return watch(name, psutil.Process(process.pid), session, url, seconds)
        finally:
            process.terminate()
            process.wait(10)


def watch(name: str, process: psutil.Process, session: requests.Session, url: str, seconds: float) -> Rival:
    """Scrape once a second and return what it took."""
    before, start, taken, text = process.cpu_times(), time.monotonic(), [], ""
    while time.monotonic() < start + seconds:
        begun = time.perf_counter()
        text = session.get(url, timeout=5).text
        taken.append(1000 * (time.perf_counter() - begun))
        time.sleep(max(0.0, 1.0 - (time.perf_counter() - begun)))
    after, elapsed = process.cpu_times(), time.monotonic() - start
    cpu = (after.user + after.system - before.user - before.system) / elapsed
    series = sum(len(family.samples) for family in text_string_to_metric_families(text))
    return Rival(name, taken, cpu, process.memory_info().rss, series)


def gaps_ms(folder: Path) -> np.ndarray:
    """Return the milliseconds between samples of GPU 0 in a raw log."""
    times: list[float] = []
    for path in sorted(folder.glob("nvml_*.csv")):
        rows = (line.split(",", 2) for line in path.read_text().splitlines()[1:])
        times += [float(at) for at, gpu, _ in rows if gpu == "0"]
    return np.diff(times)


def print_readings(replay: Path | None) -> None:
    """Print the cost of each reading of the first GPU."""
    try:
        device = (ReplayReader(replay) if replay else NvmlReader()).open()[0]
    except (GpuError, ActionableError, IndexError) as error:
        print(f"readings: not run, no GPU answers ({error})")
        return
    print(f"{device.info.name}, driver {device.info.driver}, backend {device.info.backend}")
    print(f"{'reading':<12} {'calls':>6} {'p50 us':>10} {'p99 us':>10}")
    for name, taken in time_readings(device):
        print(f"{name:<12} {len(taken):>6} {np.percentile(taken, 50):>10.1f} {np.percentile(taken, 99):>10.1f}")


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def print_rivals(seconds: float, replay: Path | None, folder: Path) -> None:
    """Print our exporter with all collectors, as it samples every 10 ms, beside nvitop's."""
    own_port, nvitops_port = free_port(), free_port()
    ours = [
        sys.executable,
        "-m",
        "exporter.cli",
        "--web.listen-address",
        f"127.0.0.1:{own_port}",
        "--log.level",
        "error",
    ]
    ours += ["--collector.pcie", "--collector.gpu-processes", "--raw-log.directory", str(folder)]
    ours += ["--nvml.replay-file", str(replay)] if replay else []
    nvitops = [sys.executable, "-m", "nvitop_exporter", "--bind-address", "127.0.0.1", "--port", str(nvitops_port)]
    print(f"\n{'exporter':<18} {'scrape p50':>10} {'p99 ms':>8} {'CPU':>8} {'RSS MiB':>8} {'series':>7}")
    for name, argv, port in (("hop2rag-exporter", ours, own_port), ("nvitop-exporter", nvitops, nvitops_port)):
        if find_spec(argv[2].partition(".")[0]) is None:
            print(f"{name:<18} not run: not installed")
            continue
        try:
            row = measure(name, argv, port, seconds)
        except RuntimeError as error:
            print(f"{name:<18} not run: {error}")
            continue
        p50, p99 = np.percentile(row.scrape_ms, [50, 99])
        rss = row.resident_bytes / 2**20
        print(f"{row.name:<18} {p50:>10.1f} {p99:>8.1f} {row.cpu_share:>8.2%} {rss:>8.0f} {row.series:>7}")


def print_samplers(folders: Sequence[Path]) -> None:
    """Print what the sampler achieved in each raw log."""
    print(f"\n{'sampler':<48} {'samples':>8} {'Hz':>8} {'gap p50':>8} {'p99':>8} {'max ms':>8}")
    for folder in folders:
        gaps = gaps_ms(folder)
        if not gaps.size:
            print(f"{folder.parent.name:<48} no samples: no GPU was seen")
            continue
        p50, p99 = np.percentile(gaps, [50, 99])
        hertz = 1000 / gaps.mean()
        print(f"{folder.parent.name:<48} {gaps.size + 1:>8} {hertz:>8.3f} {p50:>8.2f} {p99:>8.2f} {gaps.max():>8.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--replay", type=Path, help="sampled in place of a GPU")
    parser.add_argument("--raw-log", type=Path, nargs="*", default=[], help="raw logs of runs")
    arguments = parser.parse_args()
    print(describe("prometheus-client", "uvicorn"))
    print_readings(arguments.replay)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "costs" / "nvml"
        print_rivals(arguments.seconds, arguments.replay, folder)
        print_samplers([*arguments.raw_log, folder])


if __name__ == "__main__":
    main()
