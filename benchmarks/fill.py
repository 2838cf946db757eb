"""A Prometheus filled with what one server exposes, for as long and as many GPUs as a benchmark wants.

The series, their labels and their last values are those of the reference run's recorded expositions; GPUs, which a
recording may lack, are those of the metrics reference. The values between are made up: counters rise in uneven steps to
what was recorded, gauges move by a fifth. So the number of series and of samples is real, and the cost of a query with
it; what a panel shows is not.
"""

from __future__ import annotations

import lzma
import math
import random
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from exporter.reference import gpu_families
from exporter.timeline import MEMORY_USED, NODE_ACTIVE
from workload.agent.state import NODES
from workload.demo.recording import find_recordings
from workload.paths import asset
from workload.promql.selectors import selector
from workload.services.process import HOST, ChildProcess, free_port
from workload.services.prometheus import PrometheusClient
from workload.services.prometheus_server import loopback_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client import Metric

    from workload.services.prometheus_binary import PrometheusBinary

# On a boundary of two hours, so that all lies in one block of the store.
START = 1_700_006_400
CUMULATIVE = ("_total", "_sum", "_count", "_bucket")
FAST = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:num_preemptions_total",
)
JOBS = ("vllm", "exporter", "workload")


@dataclass(frozen=True)
class Fill:
    """What is written.

    Attributes:
        seconds: how long it lasts.
        gpus: GPUs of each exporter.
        servers: vLLM servers, each with an exporter and an agent beside it.
    """

    seconds: int = 900
    gpus: int = 1
    servers: int = 1

    @property
    def end(self) -> int:
        """The time of the last scrape, in seconds since the epoch."""
        return START + self.seconds


def expositions() -> tuple[dict[str, dict[str, list[Metric]]], dict[str, str]]:
    """Return the families of a recorded run by arm and job, and the labels `run` and `experiment` of that run."""
    recording = next(found for found in find_recordings(asset("tests/fixtures/reference-run")) if found.runs)
    run = recording.runs[0]
    arms: dict[str, dict[str, list[Metric]]] = {}
    for path in sorted((recording.folder / "expositions").glob(f"{run}-*.prom.xz")):
        arm, _, job = path.name.removeprefix(f"{run}-").removesuffix(".prom.xz").rpartition("-")
        text = lzma.decompress(path.read_bytes()).decode()
        arms.setdefault(arm, {})[job] = list(text_string_to_metric_families(text))
    return arms, {"run": run, "experiment": run.split("-", 2)[2]}


def lines(fill: Fill) -> Iterator[str]:
    """Yield the samples as OpenMetrics, series by series; the arms follow each other."""
    arms, labels = expositions()
    chance = random.Random(0)
    length = fill.seconds // len(arms)
    for place, (arm, jobs) in enumerate(arms.items()):
        times = range(START + place * length, START + (place + 1) * length)
        for server in range(fill.servers):
            target = {**labels, "arm": arm, "instance": f"server-{server}"}
            for job in JOBS:
                # a recording tells of its own GPUs, or that it has none
                families = [found for found in jobs[job] if not found.name.startswith("nvml_")]
                families += gpu_families() if job == "exporter" else []
                yield from _scraped(families, {**target, "job": job}, times, fill, chance)
            yield from _activity({**target, "job": "workload-timeline"}, times, chance)
            for gpu in range(fill.gpus):
                prefix = selector(MEMORY_USED, {**target, "job": "exporter-timeline", "gpu": str(gpu)})
                for at in times:
                    yield from (
                        f"{prefix} {4e9 + chance.randrange(4) * 2**21:.0f} {at}.{tick:02}" for tick in range(100)
                    )
    yield "# EOF"


def _scraped(
    families: list[Metric], target: dict[str, str], times: range, fill: Fill, chance: random.Random
) -> Iterator[str]:
    for name in ("up", "scrape_duration_seconds", "scrape_samples_scraped"):
        yield from _rows(selector(name, target), 1.0, times, chance, 1)
    for family in families:
        for sample in family.samples:
            copies = [{"gpu": str(gpu)} for gpu in range(fill.gpus)] if "gpu" in sample.labels else [{}]
            for copy in copies:
                prefix = selector(sample.name, {**sample.labels, **copy, **target})
                yield from _rows(prefix, sample.value, times, chance, 1)
            if sample.name in FAST and target["job"] == "vllm":
                prefix = selector(sample.name, {**sample.labels, **target, "job": "vllm-fast"})
                yield from _rows(prefix, sample.value, times, chance, 10)


def _rows(prefix: str, value: float, times: range, chance: random.Random, a_second: int) -> Iterator[str]:
    """Yield a series that ends at `value`, with so many samples a second."""
    count = len(times) * a_second
    whole = math.isfinite(value) and float(value).is_integer()
    if prefix.partition("{")[0].endswith(CUMULATIVE):
        steps = list(accumulate(chance.random() < 0.3 for _ in range(count)))
        values = [value * step / (steps[-1] or 1) for step in steps]
    else:
        values = [value * (1 - 0.2 * (chance.random() < 0.1)) for _ in range(count)]
    for place, found in enumerate(values):
        yield f"{prefix} {round(found) if whole else found} {times[0] + place / a_second:.3f}"


def _activity(target: dict[str, str], times: range, chance: random.Random) -> Iterator[str]:
    """Yield node activity as the agent tells it: the edges of each visit, and a heartbeat a second."""
    edges: dict[str, dict[float, int]] = {node: {} for node in NODES}
    now, place = float(times[0]), 0
    while now < times[-1]:
        after = now + chance.uniform(0.005, 2.0)
        edges[NODES[place % len(NODES)]] |= {round(now, 3): 1, round(after, 3): 0}
        now, place = after + 0.001, place + 1
    for node, known in edges.items():
        prefix = selector(NODE_ACTIVE, {**target, "worker": "0", "node": node})
        state, found = 0, []
        for at in sorted({*known, *map(float, times)}):
            state = known.get(at, state)
            found.append(f"{prefix} {state} {at:.3f}")
        yield from found


def store(fill: Fill, binary: PrometheusBinary, folder: Path) -> Path:
    """Write the samples into a store below `folder`, without what the rules record, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    series, data = folder / "series.om", folder / "data"
    with series.open("w") as stream:
        stream.writelines(f"{line}\n" for line in lines(fill))
    _promtool(binary, "tsdb", "create-blocks-from", "openmetrics", str(series), str(data))
    series.unlink()
    return data


@contextmanager
def serving(fill: Fill, binary: PrometheusBinary, folder: Path) -> Iterator[PrometheusClient]:
    """Fill a folder, add what the rules record, and serve it while the block lasts."""
    data = store(fill, binary, folder)
    rules = [str(path) for path in sorted(asset("prometheus/rules").glob("*.yml"))]
    with _running(binary, folder) as client:
        _promtool(
            *(binary, "tsdb", "create-blocks-from", "rules", f"--start={START}", f"--end={fill.end}"),
            *(f"--url={client.url}", "--eval-interval=1s", f"--output-dir={data}", *rules),
        )
    with _running(binary, folder) as client:
        yield client


@contextmanager
def _running(binary: PrometheusBinary, folder: Path) -> Iterator[PrometheusClient]:
    port = free_port()
    (folder / "prometheus.yml").write_text("{}\n")
    argv = (
        *(str(binary.prometheus), f"--config.file={folder / 'prometheus.yml'}"),
        *(f"--storage.tsdb.path={folder / 'data'}", "--storage.tsdb.retention.time=100y"),
        *(f"--web.listen-address={HOST}:{port}", "--log.level=error"),
    )
    client = PrometheusClient(f"http://{HOST}:{port}", loopback_session())
    with ChildProcess(argv, folder / "prometheus.log"):
        while not client.ready():
            time.sleep(0.05)
        yield client


def _promtool(binary: PrometheusBinary, *arguments: str) -> None:
    subprocess.run([binary.promtool, *arguments], check=True, capture_output=True, timeout=900)
