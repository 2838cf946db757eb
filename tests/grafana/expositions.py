"""What the dashboards can read: the series of a recorded server, of the exporter's golden and of our instruments."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import CHAIN, TOKEN_FATES, AgentMetrics
from exporter.gpu.rawlog import RawLogMetrics
from exporter.gpu.sampler import SamplerMetrics
from exporter.host.processes import ProcessCollector, Target
from exporter.timeline import MEMORY_USED, NODE_ACTIVE
from workload.agent.state import LLM_NODES, NODES
from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]
ENGINE = TESTS / "fixtures" / "vllm" / "vllm_0.32.0_cpu.prom"
EXPORTER = TESTS / "golden" / "exposition_complete.prom"
TARGET_LABELS = ("job", "instance", "run", "experiment", "arm", "phase")
JOBS = ("vllm", "vllm-fast", "exporter", "exporter-timeline", "workload", "workload-timeline", "prometheus")
RECORDED_LABELS = {*TARGET_LABELS, "model_name", "finished_reason"}


@dataclass(frozen=True)
class Sample:
    """One sample as a target exposes it: the job that scrapes it, its name, its own labels and its value."""

    job: str
    name: str
    labels: dict[str, str]
    value: float


def samples() -> Iterator[Sample]:
    """Yield every sample of one scrape of each target, and what Prometheus adds; what a golden leaves open is 1."""
    exporter = re.sub(r"(?m)^([^#\n]+[}\w])$", r"\1 1", EXPORTER.read_text())
    texts = {"vllm": ENGINE.read_text(), "exporter": exporter + _own_of_exporter(), "workload": _agent()}
    for job, text in texts.items():
        for family in text_string_to_metric_families(text):
            yield from (Sample(job, found.name, dict(found.labels), found.value) for found in family.samples)
    yield from (Sample("workload-timeline", NODE_ACTIVE, {"worker": "0", "node": node}, 1) for node in NODES)
    yield Sample("exporter-timeline", MEMORY_USED, {"gpu": "0"}, 4e9)
    for job in JOBS:
        yield Sample(job, "up", {}, 1)
        yield Sample(job, "scrape_duration_seconds", {}, 0.01)
        yield Sample(job, "scrape_samples_scraped", {}, 100)
    for alert in dict.fromkeys(alerts()):  # a burn of two speeds has one name
        yield Sample("workload", "ALERTS", {"alertname": alert, "alertstate": "firing", "severity": "warning"}, 1)


def known() -> dict[str, dict[str, set[str]]]:
    """Return the values of each label of each name, those of the target's labels left open; recorded names too."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for sample in samples():
        for name, value in (sample.labels | dict.fromkeys(TARGET_LABELS, "")).items():
            found[sample.name][name].add(value)
    for name in recorded():
        found[name] = {label: set() for label in RECORDED_LABELS}
    return found


def recorded() -> list[str]:
    """Return the names that recording rules write, those of the objectives too."""
    return [rule["record"] for folder in ("rules", "alerts") for rule in _rules(folder) if "record" in rule]


def alerts() -> list[str]:
    """Return the names of the alerts."""
    return [rule["alert"] for rule in _rules("alerts") if "alert" in rule]


def _rules(folder: str) -> Iterator[dict[str, str]]:
    for file in sorted(asset(f"prometheus/{folder}").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def _own_of_exporter() -> str:
    """Return what the exporter says about itself when it has missed a sample, failed a call, and logs."""
    registry = CollectorRegistry()
    sampler = SamplerMetrics(registry)
    sampler.errors.labels("0", "timeout").inc()
    RawLogMetrics(registry)
    registry.register(ProcessCollector({"engine": Target(pid=os.getpid()), "agent": Target(pid=os.getpid())}))
    return generate_latest(registry).decode()


def _agent() -> str:
    """Return the agent's exposition after some traffic on every series."""
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry, NODES, LLM_NODES)
    metrics.expect(metrics.cached_prompt_tokens)
    metrics.expect(metrics.reusable_prompt_tokens)
    metrics.expect_fates()
    metrics.engine.version, metrics.engine.kv_pool_bytes, metrics.engine.kv_block_bytes = "0.32.0", 2**30, 2**20
    registry.register(BusySeconds())
    tokens = (metrics.prompt_tokens, 100), (metrics.reusable_prompt_tokens, 80), (metrics.cached_prompt_tokens, 60)
    for (counter, amount), labels in product(tokens, product(LLM_NODES, ("1", "2"))):
        counter.labels(*labels).inc(amount)
    for node, hop in product(LLM_NODES, ("1", "2")):
        for fate in TOKEN_FATES:
            metrics.prompt_token_fates.labels(node, hop, fate).inc(10)
        for place, amount in zip(CHAIN, (100, 80, 70, 60, 60), strict=True):
            metrics.findable_prompt_tokens.labels(node, hop, place).inc(amount)
    for family in list(registry.collect()):
        for sample in family.samples:
            if sample.name.endswith("_count"):
                _observe(metrics, family.name, sample.labels)
    metrics.questions.labels("ok", "done").inc(10)
    metrics.llm_errors.labels("decide", "timeout").inc()
    metrics.json_repairs.labels("decide").inc()
    # which states had time depends on the clock
    text = re.sub(r"(?m)^(hop2rag_busy_seconds_total\S+) .+$", r"\1 10", generate_latest(registry).decode())
    return re.sub(r"(?m)^(hop2rag_node_active\S+) .+$", r"\1 1", text)


def _observe(metrics: AgentMetrics, name: str, labels: dict[str, str]) -> None:
    """Put ten observations of 0.1 (seconds, hops) or 500 (tokens) into one series of a histogram."""
    histogram = next(found for found in vars(metrics).values() if getattr(found, "_name", None) == name)
    child = histogram.labels(**labels) if labels else histogram
    for _ in range(10):
        child.observe(500 if name.endswith("tokens") else 0.1)
