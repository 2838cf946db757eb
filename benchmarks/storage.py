"""How many series a server, a GPU and an agent expose, and what a day of them takes on disk.

Usage: python benchmarks/storage.py

Series are counted in the reference run's recorded expositions (a GPU's in the metrics reference). Bytes a sample are
measured on a store that promtool builds: from the reference run's real values, and from `fill`, which has all series of
a scrape but made-up values. The days of larger fleets are computed from these two.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fill import FAST, Fill, expositions, store
from machine import describe

from exporter.reference import gpu_families
from workload.agent.state import NODES
from workload.demo.recording import SERIES, find_recordings, unpack
from workload.paths import asset, cache_dir
from workload.services.prometheus_binary import find_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

DAY_SECONDS = 86_400
# What Prometheus adds to each target: up, duration, samples scraped, after relabelling, series added.
ADDED = 5
TARGETS = 6
RULES = 32
# Samples a second of one worker's activity: a heartbeat a node, and the edges of some visits.
ACTIVITY = len(NODES) + 4
FLEETS = ((1, 1), (1, 8), (13, 8), (100, 1))


@dataclass(frozen=True)
class Rates:
    """Series of one of each, which are samples a second where nothing else is said."""

    vllm: int
    exporter: int
    gpu: int
    agent: int

    def series(self, servers: int, gpus: int) -> int:
        """Return the series of a fleet."""
        fast, activity = len(FAST), len(NODES)
        of_server = self.vllm + fast + self.exporter + self.agent + activity + RULES + ADDED * TARGETS
        return servers * (of_server + gpus * (self.gpu + 1))

    def samples(self, servers: int, gpus: int) -> int:
        """Return the samples a second of a fleet."""
        of_server = self.vllm + 10 * len(FAST) + self.exporter + self.agent + ACTIVITY + RULES + ADDED * TARGETS
        return servers * (of_server + gpus * (self.gpu + 100))


def count(families: Iterable[Metric]) -> int:
    """Return the number of samples of an exposition."""
    return sum(len(family.samples) for family in families)


def rates() -> Rates:
    """Return the series of each part."""
    arms, _ = expositions()
    jobs = next(iter(arms.values()))
    gpu = count(gpu_families())
    own = [family for family in jobs["exporter"] if not family.name.startswith("nvml_")]
    return Rates(count(jobs["vllm"]), count(own), gpu, count(jobs["workload"]))


def measured(data: Path) -> tuple[int, int]:
    """Return samples and bytes of the blocks in a folder."""
    metas = [json.loads(path.read_text()) for path in data.glob("*/meta.json")]
    samples = sum(meta["stats"]["numSamples"] for meta in metas)
    size = sum(path.stat().st_size for path in chain(data.glob("*/index"), data.glob("*/chunks/*")))
    return samples, size


def main() -> int:
    """Measure and print both tables."""
    machine = describe("prometheus-client")
    binary = find_prometheus(cache_dir())
    found = rates()
    print(f"{machine}, Prometheus {'.'.join(map(str, binary.version))}")
    print(f"series: vLLM server {found.vllm}, exporter {found.exporter}, GPU {found.gpu}, agent {found.agent}")
    bytes_a_sample = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = next(each for each in find_recordings(asset("tests/fixtures/reference-run")) if each.runs)
        unpack(recording.folder / SERIES, folder / "real.om")
        build = ("tsdb", "create-blocks-from", "openmetrics", "--quiet")
        argv = [binary.promtool, *build, folder / "real.om", folder / "real"]
        subprocess.run(argv, check=True, capture_output=True, timeout=600)
        stores = {"real": folder / "real", "filled": store(Fill(), binary, folder / "filled")}
        for source, data in stores.items():
            samples, size = measured(data)
            bytes_a_sample[source] = size / samples
            print(f"{source:<7} {samples:>9} samples, {size / 1e6:6.1f} MB: {size / samples:.2f} bytes a sample")
    worst = max(bytes_a_sample.values())
    print(f"{'servers':>8} {'GPUs':>6} {'series':>9} {'samples/s':>10} {'GB a day':>9}   (at {worst:.2f} bytes)")
    for servers, gpus in FLEETS:
        samples = found.samples(servers, gpus)
        print(
            f"{servers:>8} {servers * gpus:>6} {found.series(servers, gpus):>9} {samples:>10} "
            f"{samples * DAY_SECONDS * worst / 1e9:>9.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
