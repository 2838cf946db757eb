"""A Prometheus that holds 90 seconds of every exposed series, and what the rules record of it.

Of two arms, each with a warm-up that shows half as much of the agent again; or of a server and an agent that somebody
has added without a word about runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import yaml

from exporter.timeline import MEMORY_USED, NODE_ACTIVE
from tests.grafana.expositions import Sample, samples
from workload.agent.state import NODES
from workload.paths import asset
from workload.promql.selectors import selector
from workload.services.process import free_port
from workload.services.prometheus import PrometheusClient
from workload.services.prometheus_server import loopback_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from workload.services.prometheus_binary import PrometheusBinary

START, LENGTH_SECONDS, SCRAPE_SECONDS = 1_700_000_000, 90, 1
END = START + LENGTH_SECONDS
# Queries look at what lies behind the longest fixed window.
SHOWN_FROM = START + 62
ARMS = ("prefix-off", "prefix-on")
CUMULATIVE = ("_total", "_sum", "_count", "_bucket")
FOREVER = "100y"
RUN = {"run": "r1", "experiment": "vllm-metrics"}
OURS = tuple({**RUN, "arm": arm, "phase": phase} for arm in ARMS for phase in ("measured", "warmup"))
BARE = ({"namespace": "n", "pod": "p-0"},)
FAST = "vllm-fast"
START_TIMEOUT_SECONDS = 20


def openmetrics(names: set[str], places: Sequence[Mapping[str, str]]) -> str:
    """Return the recording as OpenMetrics: counters rise evenly to what was exposed, all else stays as it was."""
    lines = []
    for sample in samples():
        if sample.name in names:
            copies = (
                [sample, Sample(FAST, sample.name, sample.labels, sample.value)]
                if sample.name.startswith("vllm:")
                else [sample]
            )
            lines += [line for copy in copies for place in places for line in _series(copy, place)]
    return "\n".join([*lines, "# EOF\n"])


def _series(sample: Sample, place: Mapping[str, str]) -> Iterator[str]:
    if place.get("phase") == "warmup":
        if sample.job != "workload":
            return
        sample = replace(sample, value=sample.value / 2)
    is_on = place.get("arm") != "prefix-off"
    caching = {"enable_prefix_caching": str(is_on)} if sample.name == "vllm:cache_config_info" else {}
    labels = {**sample.labels, **caching, **place, "job": sample.job, "instance": f"{sample.job}-1"}
    prefix = selector(sample.name, labels)
    for passed in range(0, LENGTH_SECONDS + 1, SCRAPE_SECONDS):
        yield f"{prefix} {_value(sample, passed)} {START + passed}"


def _value(sample: Sample, passed: int) -> float:
    if sample.name == NODE_ACTIVE:
        return int(NODES[passed // 2 % len(NODES)] == sample.labels["node"])
    return sample.value * passed / LENGTH_SECONDS if sample.name.endswith(CUMULATIVE) else sample.value


@contextmanager
def serving(
    binary: PrometheusBinary, folder: Path, names: set[str], places: Sequence[Mapping[str, str]] = OURS
) -> Iterator[PrometheusClient]:
    """Fill a folder with the recording and with what the rules make of it, and serve it."""
    recording, data = folder / "recording.txt", folder / "data"
    recording.write_text(openmetrics(names | {MEMORY_USED}, places))
    _promtool(binary, "tsdb", "create-blocks-from", "openmetrics", str(recording), str(data))
    rules = sorted(asset("prometheus/rules").glob("*.yml"))
    for files in ([*rules, asset("prometheus/alerts/slo.yml")], [_on_recorded(rules, folder)]):
        with _running(binary, folder) as client:
            _promtool(
                binary, "tsdb", "create-blocks-from", "rules", f"--start={START}", f"--end={END}",
                f"--url={client.url}", "--eval-interval=1s", f"--output-dir={data}", *map(str, files),
            )  # fmt: skip
    with _running(binary, folder) as client:
        yield client


def _on_recorded(rules: Sequence[Path], folder: Path) -> Path:
    """Write the rules that read what others record: promtool evaluates all of a file's on what is stored before."""
    groups = [group for path in rules for group in yaml.safe_load(path.read_text())["groups"]]
    recorded = {rule["record"] for group in groups for rule in group["rules"]}
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if recorded.intersection(re.findall(r"[\w:]+", rule["expr"]))]
    path = folder / "on-recorded.yml"
    path.write_text(json.dumps({"groups": groups}))
    return path


@contextmanager
def _running(binary: PrometheusBinary, folder: Path) -> Iterator[PrometheusClient]:
    config = folder / "prometheus.yml"
    config.write_text("{}\n")
    port = free_port()
    command = [
        str(binary.prometheus), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={FOREVER}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with subprocess.Popen(command) as process, loopback_session() as session:
        try:
            client = PrometheusClient(f"http://127.0.0.1:{port}", session)
            _wait(client)
            yield client
        finally:
            process.terminate()


def _wait(client: PrometheusClient) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not client.ready():
        assert time.monotonic() < deadline, "Prometheus did not start"
        time.sleep(0.05)


def _promtool(binary: PrometheusBinary, *arguments: str) -> None:
    done = subprocess.run([binary.promtool, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
