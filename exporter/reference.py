"""Writes docs/metrics.md from the instruments themselves: `python -m exporter.reference > docs/metrics.md`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import AgentMetrics, metering_failures, waiting_family
from exporter.agent.soak import SoakMetrics
from exporter.collector import Collectors
from exporter.gpu.families import GpuCollector
from exporter.gpu.latest import Clock, GpuRecord
from exporter.gpu.rawlog import RawLogMetrics
from exporter.gpu.readings import BusyTime, GpuInfo, Memory, Pcie, Processes, Status, Utilization, Xids
from exporter.gpu.sampler import SamplerMetrics
from exporter.host.filesystem import FilesystemCollector
from exporter.host.processes import HostCollector, ProcessCollector, Target
from exporter.timeline import MEMORY_USED, MEMORY_USED_HELP, NODE_ACTIVE, NODE_ACTIVE_HELP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


UNITS = ("seconds", "bytes", "tokens", "ratio", "watts", "joules", "celsius", "hertz", "bytes_per_second")
SUFFIXES = {"counter": "_total", "info": "_info"}
INTRODUCTION = """\
# Metrics

Generated from the instruments by `python -m exporter.reference > docs/metrics.md`; a test compares the two. Names carry
base units, counters end in `_total`, ratios range from 0 to 1. An unknown value has no series: absent is not zero.
Times in `hop2rag_*` are real starts and ends on a monotonic clock.
"""
AGENT_NOTE = """\
Served by the process that runs the agent, because a visit of a millisecond cannot be seen from outside.
`hop2rag_soak_*` exist only during `hop2rag soak`.
"""
TIMELINE_NOTE = """\
Served on `/metrics/timeline`; each sample has its own timestamp in milliseconds. Explicit timestamps get no staleness
marker, so a bare selector returns the last value for five minutes after its source dies: always query
`last_over_time(x[100ms])` for memory and `last_over_time(x[2s])` for activity. Each scrape contains the last three
seconds, so one or two missed scrapes lose nothing. A sample that is sent twice is stored once and counted in
`prometheus_target_scrapes_sample_out_of_order_total`; the warning in Prometheus's log is harmless.
`promtool check metrics` 3.x reports these series as not unique, because each has many timestamps.
Prometheus 2.52.0 to 2.53.1 keeps only one sample of each scrape: use another version.
"""
GPU_NOTE = """\
A metric that the GPU, the driver or the backend does not provide is left out. `gpu` is the index, or `index:instance`
for a MIG instance. A GPU that stops answering keeps `nvml_gpu_info`, `nvml_gpu_up` 0, the growing age of its last
sample and its XID errors, which say why; it loses every other series within two seconds. A GPU that answers but does
not report its memory, such as one that shares the host's memory, is up without it. `nvml_gpu_info{backend="replay"}`
marks a recording. Under vLLM device memory hardly changes, because the KV pool is allocated once: watch the pool's
usage too.
"""
HOST_NOTE = """\
Flags name process trees by port, pid or command line, and volumes by a folder on them. Where several trees have that
command line, none is measured: `hop2rag_host_processes_ambiguous` is 1, and the log names them. With
`--collector.processes.targets`, the folder of Prometheus's target files, only trees in the network of a scraped server
count, so another project's engine on the same host does not.
"""
OWN_NOTE = "Python's own `process_*` series of the exporter are served as well.\n"


class CompleteGpu:
    """A GPU with every field, so that every metric appears."""

    info = GpuInfo(gpu="0", index="0", uuid="GPU-0", name="complete", driver="0", backend="reference")


def complete_record() -> GpuRecord:
    """Return a record with a fresh reading of every kind."""
    clock = Clock()
    record = GpuRecord(CompleteGpu(), clock, depth=2)  # type: ignore[arg-type]
    for _ in range(2):
        record.put_memory(Memory(used=1, total=1, free=0), clock.monotonic())
    for kind in (Utilization, BusyTime, Status, Xids, Pcie):
        record.put(kind(**dict.fromkeys(kind.__slots__, 1)))
    record.put(Processes(((1, 1),)))
    return record


def agent_families() -> Iterator[Metric]:
    """Yield the families that the process of the agent serves."""
    registry = CollectorRegistry()
    agent = AgentMetrics(registry, nodes=("node",), llm_nodes=("node",))
    agent.expect(agent.cached_prompt_tokens)
    agent.expect(agent.reusable_prompt_tokens)
    agent.expect_fates()
    for instrument in (agent.llm_first_answer, agent.calls_without_usage):
        instrument.labels("node")
    agent.engine.version, agent.engine.kv_pool_bytes, agent.engine.kv_block_bytes = "0", 1, 1
    registry.register(BusySeconds())
    metering_failures(registry)
    SoakMetrics(registry, ())
    yield from registry.collect()
    yield waiting_family(1)


def gpu_families() -> Iterator[Metric]:
    """Yield the families of the GPU collector."""
    registry = CollectorRegistry()
    SamplerMetrics(registry).errors.labels("0", "GPU_IS_LOST")
    families = [*GpuCollector(lambda: [complete_record()], lambda: True).collect(), *registry.collect()]
    yield from (family for family in families if family.name.startswith("nvml_"))


def host_families() -> Iterator[Metric]:
    """Yield the families of the host, process and filesystem collectors."""
    yield from HostCollector().collect()
    yield from ProcessCollector({"engine": Target(pid=1)}).collect()
    yield from FilesystemCollector({"results": Path("/")}).collect()


def own_families() -> Iterator[Metric]:
    """Yield the families about the exporter itself."""
    registry = CollectorRegistry()
    sampler = SamplerMetrics(registry)
    sampler.interval.labels("0")
    sampler.missed.labels("0")
    RawLogMetrics(registry)
    registry.register(Collectors({"host": HostCollector()}))
    families = [*registry.collect(), *GpuCollector(lambda: [complete_record()], lambda: True).collect()]
    yield from (family for family in families if family.name.startswith("hop2rag_exporter_"))
    info = GaugeMetricFamily("hop2rag_exporter_build_info", "Version of the exporter.", labels=["version"])
    info.add_metric(["0"], 1)
    yield info


def timeline_families() -> Iterator[Metric]:
    """Yield the families of /metrics/timeline: memory from the exporter, activity from the agent's process."""
    for name, text, labels in (
        (MEMORY_USED, MEMORY_USED_HELP, ["gpu"]),
        (NODE_ACTIVE, NODE_ACTIVE_HELP, ["worker", "node"]),
    ):
        family = GaugeMetricFamily(name, text, labels=labels)
        family.add_metric(labels, 1)
        yield family


def table(families: Iterable[Metric]) -> str:
    """Return a Markdown table: name, type, unit, labels, meaning."""
    rows = ["| metric | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    for family in families:
        name = family.name + SUFFIXES.get(family.type, "")
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        shown = ", ".join(f"`{label}`" for label in labels) or "-"
        rows.append(f"| `{name}` | {family.type} | {unit_of(family.name)} | {shown} | {family.documentation} |")
    return "\n".join(rows) + "\n"


def unit_of(name: str) -> str:
    """Return the unit that a family's name ends in, or "-" for a count or a state."""
    return next((unit.replace("_", " ") for unit in sorted(UNITS, key=len, reverse=True) if name.endswith(unit)), "-")


def render() -> str:
    """Return docs/metrics.md."""
    sections = (
        ("Agent", AGENT_NOTE, agent_families()),
        ("GPU", GPU_NOTE, gpu_families()),
        ("Timeline", TIMELINE_NOTE, timeline_families()),
        ("Host and processes", HOST_NOTE, host_families()),
        ("The exporter itself", OWN_NOTE, own_families()),
    )
    return "\n".join(
        [INTRODUCTION, *(f"## {title}\n\n{note}\n{table(families)}" for title, note, families in sections)]
    )


if __name__ == "__main__":
    sys.stdout.write(render())
