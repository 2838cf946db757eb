"""Panels of two servers with two engines each, and of two hosts with two GPUs each: which way several become one.

The table of vLLM's facts decides over the engines of a server, and panels decide the same way over servers and hosts:
what is counted adds up, and of what is a share or a quantile the highest is shown, or the whole by weight.
"""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml

from workload import panels
from workload.panels.panel import Panel
from workload.paths import asset
from workload.promql import concurrency, gpu_memory, overview, pipeline, vllm_metrics
from workload.promql.query import Query
from workload.promql.vllm_facts import load_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ARM = '{arm="base"}'
EVALUATED_AT = "80s500ms"  # between samples: a range has its left end in Prometheus 2 and not in 3
SERVERS = [(server, engine) for server in ("e:1", "e:2") for engine in ("0", "1")]
GPUS = [(host, gpu) for host in ("h:1", "h:2") for gpu in ("0", "1")]
# What the four engines have, in the order of SERVERS: gauges, then how much a counter gains per second.
LEVELS = {
    "vllm:num_requests_running": (1, 2, 3, 4),
    "vllm:num_requests_waiting": (0, 1, 2, 5),
    "vllm:kv_cache_usage_perc": (0.1, 0.2, 0.4, 0.3),
}
GAINS = {
    "vllm:generation_tokens_total": (10, 20, 30, 40),
    "vllm:prompt_tokens_total": (10, 20, 30, 40),
    "vllm:num_preemptions_total": (1, 2, 3, 4),
    "vllm:prefix_cache_queries_total": (6, 6, 500, 512),
    "vllm:prefix_cache_hits_total": (6, 6, 26, 26),
    "vllm:e2e_request_latency_seconds_sum": (1, 2, 3, 4),
    "vllm:request_queue_time_seconds_sum": (1, 1, 6, 8),
    "vllm:request_queue_time_seconds_count": (1, 1, 1, 1),
    # the first server answers within a tenth of a second, the second one within two
    'vllm:time_to_first_token_seconds_bucket{le="0.1"}': (10, 10, 0, 0),
    'vllm:time_to_first_token_seconds_bucket{le="2"}': (10, 10, 10, 10),
    'vllm:time_to_first_token_seconds_bucket{le="+Inf"}': (10, 10, 10, 10),
    "vllm:time_to_first_token_seconds_count": (10, 10, 10, 10),
}
OF_GPUS = {
    "nvml_memory_used_bytes": (80, 10, 20, 30),
    "nvml_memory_total_bytes": (80, 160, 160, 60),
    "nvml_timeline_memory_used_bytes": (80, 10, 20, 30),
    "nvml_utilization_ratio": (0.5, 0.25, 0.75, 0),
}
OF_HOSTS = {'hop2rag_host_process_resident_memory_bytes{role="engine"}': (3, 4)}
SEVERAL = [
    (vllm_metrics.RUNNING, {ARM: 10}),
    (vllm_metrics.WAITING, {ARM: 8}),
    (vllm_metrics.KV_USAGE, {ARM: 0.4}),
    (vllm_metrics.GENERATION_THROUGHPUT, {ARM: 100}),
    (vllm_metrics.PROMPT_THROUGHPUT, {ARM: 100}),
    (vllm_metrics.CACHED_PROMPT_TOKENS, {ARM: 64}),
    (vllm_metrics.PREEMPTIONS, {ARM: 10}),
    (vllm_metrics.HIT_RATIO, {ARM: 0.0625}),
    (pipeline.REQUESTS_IN_FLIGHT, {ARM: 10}),
    (concurrency.QUEUE_SECONDS, {ARM: 4}),
    (overview.FIRST_TOKEN_P50, {ARM: 1.05}),
    (overview.FIRST_TOKEN_COUNT, {ARM: 2360}),
    (overview.KV_PEAK, {"{}": 0.4}),
    (overview.WAITING_PEAK, {"{}": 5}),
    (overview.GPU_PEAK, {'{gpu="0"}': 1, '{gpu="1"}': 0.5}),
    (gpu_memory.DEVICE_MEMORY, {'{arm="base",gpu="0"}': 80, '{arm="base",gpu="1"}': 30}),
    (gpu_memory.UTILIZATION, {'{arm="base",gpu="0"}': 0.75, '{arm="base",gpu="1"}': 0.25}),
    (gpu_memory.ENGINE_RESIDENT, {ARM: 7}),
]


def _series() -> Iterator[dict[str, str]]:
    """Yield what promtool fills a Prometheus with, a sample per second."""
    for metric, values in {**LEVELS, **GAINS}.items():
        for (server, engine), value in zip(SERVERS, values, strict=True):
            for job in ("vllm", "vllm-fast"):
                labels = f'job="{job}",instance="{server}",engine="{engine}",model_name="m"'
                yield _one(metric, labels, f"0+{value}x90" if metric in GAINS else f"{value}x90")
    for metric, values in OF_GPUS.items():
        for (host, gpu), value in zip(GPUS, values, strict=True):
            job = "exporter-timeline" if "timeline" in metric else "exporter"
            yield _one(metric, f'job="{job}",instance="{host}",gpu="{gpu}"', f"{value}x90")
    for metric, values in OF_HOSTS.items():
        for host, value in zip(("h:1", "h:2"), values, strict=True):
            yield _one(metric, f'job="exporter",instance="{host}"', f"{value}x90")


def _one(metric: str, labels: str, values: str) -> dict[str, str]:
    name, _, own = metric.rstrip("}").partition("{")
    joined = ",".join(filter(None, (own, labels, 'run="r",arm="base"')))
    return {"series": f"{name}{{{joined}}}", "values": values}


@pytest.mark.prometheus
def test_several_become_one_by_their_kind(promtool: Callable[..., str], tmp_path: Path) -> None:
    """Two servers at 40 % are not at 80 %, and the mean of 100 % of ten tokens and 3 % of a thousand is not 51 %."""
    asked = [
        {
            "expr": query.scoped({}, 1.0, range_seconds=60),
            "eval_time": EVALUATED_AT,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
        }
        for query, expected in SEVERAL
    ]
    test: dict[str, Any] = {"interval": "1s", "input_series": list(_series()), "promql_expr_test": asked}
    rules = [str(path) for path in asset("prometheus/rules").glob("*.yml")]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "1s", "tests": [test]}))
    promtool("test", "rules", file)


QUERIES = {
    line.query
    for found in pkgutil.iter_modules(panels.__path__)
    for panel in vars(import_module(f"{panels.__name__}.{found.name}")).values()
    if isinstance(panel, Panel)
    for line in panel.lines
}
PART = re.compile(r"_(bucket|sum|count)$")


def adding(query: Query) -> Iterator[str]:
    """Yield how a query adds what does not add up, or drops what does."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(query.scoped({}, 1.0)), found.append)
    kinds = {name.name: (fact.type, fact.unit) for fact in load_facts().values() for name in fact.names}
    for node in found:
        if isinstance(node, promql_parser.AggregateExpr):
            for name in re.findall(r"[\w:]+(?=\{)", str(node.expr)):
                kind, unit = kinds.get(PART.sub("", name), ("", ""))
                if str(node.op) == "sum" and (unit == "ratio" or re.search(r"_ratio|:p\d+_|_perc$|_celsius", name)):
                    yield f"a sum of {name}"
                if str(node.op) in {"max", "avg"} and kind in {"counter", "histogram"}:
                    yield f"{node.op} of {name}"


def test_only_what_is_counted_is_added() -> None:
    """A query is of one kind of fact, and its kind decides; a new one is judged like the others."""
    assert {query.name: found for query in QUERIES if (found := list(adding(query)))} == {}
    for wrong in ('sum(vllm:kv_cache_usage_perc{job="vllm"})', "avg(rate(vllm:prompt_tokens_total{}[1m]))"):
        assert len(list(adding(Query("wrong", wrong)))) == 1
