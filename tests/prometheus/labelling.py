"""Ways in which the series of others are labelled: by Kubernetes, by two clusters, by an API process, or not at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workload.promql.selectors import selector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Series = Mapping[str, str]
    Labels = dict[str, str]

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
OF_A_RUN = ("run", "experiment", "arm")
OF_KUBERNETES = {
    "cluster": "c1",
    "namespace": "n",
    "pod": "p-0",
    "container": "c",
    "endpoint": "http",
    "service": "s",
    "rack": "1",
}
GAUGE = re.compile(r"vllm:(num_requests_\w+|(gpu_)?(kv_)?cache_usage_perc)$")
KV_USAGE = re.compile(r"vllm:(kv|gpu)_cache_usage_perc$")


def parsed(series: str) -> tuple[str, Labels]:
    """Return the metric and the labels of a series as a rule test writes it."""
    metric, _, rest = series.partition("{")
    return metric, dict(LABEL.findall(rest))


def _each(change: Callable[[str, Labels], list[Labels]]) -> Callable[[Series], dict[str, str]]:
    """Return a way that changes the labels of what a job scraped, and leaves what Prometheus writes itself."""

    def way(series: Series) -> dict[str, str]:
        found: dict[str, str] = {}
        for written, values in series.items():
            metric, labels = parsed(written)
            for changed in change(metric, labels) if "job" in labels else [labels]:
                found[selector(metric, changed)] = values
        return found

    return way


def _by_kubernetes(metric: str, labels: Labels) -> list[Labels]:
    return [labels | OF_KUBERNETES | {"phase": "measured"} | ({"pid": "273"} if GAUGE.match(metric) else {})]


def _unlabelled(metric: str, labels: Labels) -> list[Labels]:
    own = {name: value for name, value in labels.items() if name not in OF_A_RUN}
    return [own | ({"pid": "273"} if KV_USAGE.match(metric) else {})]


def _in_two_clusters(_: str, labels: Labels) -> list[Labels]:
    return [labels | {"cluster": "c1"}, labels | {"cluster": "c2"}]


def _more_on(*metrics: str) -> Callable[[str, Labels], list[Labels]]:
    return lambda metric, labels: [labels | ({"replica": "r1"} if metric.removeprefix("vllm:") in metrics else {})]


BY_KUBERNETES, TWICE = "by Kubernetes, a pid on every gauge", "one address in two clusters"
WAYS: Mapping[str, Callable[[Series], dict[str, str]]] = {
    BY_KUBERNETES: _each(_by_kubernetes),
    "without a run, a pid on one gauge": _each(_unlabelled),
    TWICE: _each(_in_two_clusters),
    # Of each two that a rule joins, one.
    "one label more on the first": _each(
        _more_on(
            "num_requests_running",
            "generation_tokens_total",
            "num_preemptions_total",
            "prefix_cache_hits_total",
            "time_to_first_token_seconds_bucket",
        )
    ),
    "one label more on the second": _each(
        _more_on(
            "num_requests_waiting",
            "prompt_tokens_total",
            "request_success_total",
            "prefix_cache_queries_total",
            "time_to_first_token_seconds_count",
        )
    ),
}
