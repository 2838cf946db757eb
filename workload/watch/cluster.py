"""`prometheus/kubernetes`: monitors of our pods, and the rules, as objects for kube-prometheus-stack.

`python -m workload.watch.cluster` writes the committed files from `prometheus/prometheus.yml` and the rule files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.files import atomic_file
from workload.paths import asset
from workload.services.rule_files import files_at
from workload.watch.folder import READABLE
from workload.watch.jobs import SECOND_JOBS, intervals, own_jobs
from workload.watch.kubernetes import prometheus_rules, relabelling
from workload.watch.plain_yaml import written
from workload.watch.subject import LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INTERVAL_S = 1
"""A run needs it, and the committed rules are for it; `hop2rag watch` renders others."""

PODS = {"vllm": ("vllm", "http"), "exporter": ("hop2rag-exporter", "metrics"), "workload": ("hop2rag-agent", "metrics")}
"""The label `app.kubernetes.io/name` of the pods of a job, and the name of their port."""

HEADER = "# Written by `python -m workload.watch.cluster`; change {source} instead.\n"
LIMITS = {
    "body_size_limit": "bodySizeLimit",
    "sample_limit": "sampleLimit",
    "label_limit": "labelLimit",
    "label_name_length_limit": "labelNameLengthLimit",
    "label_value_length_limit": "labelValueLengthLimit",
}


def pod_monitor(name: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `PodMonitor` for one of our scrape jobs: pods of every namespace, with the labels of no run."""
    pods, port = PODS[SECOND_JOBS.get(name, name)]
    how_often = intervals(name, dict(job), INTERVAL_S)
    labels = {"job": name, **LABELS.as_dict()}
    endpoint: dict[str, Any] = {
        "port": port,
        "path": job.get("metrics_path", "/metrics"),
        "interval": how_often["scrape_interval"],
        "scrapeTimeout": how_often["scrape_timeout"],
        "honorTimestamps": True,
        "relabelings": [{"targetLabel": label, "replacement": value} for label, value in labels.items()],
    }
    if configs := job.get("metric_relabel_configs"):
        endpoint["metricRelabelings"] = [relabelling(config) for config in configs]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": f"hop2rag-{name}"},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": pods}},
            "namespaceSelector": {"any": True},
            "podMetricsEndpoints": [endpoint],
            **{theirs: job[ours] for ours, theirs in LIMITS.items()},
        },
    }


def contents() -> dict[str, str]:
    """Return the committed files by name."""
    rules = {name: text for name, text in files_at(INTERVAL_S).items() if name.startswith("prometheus/")}
    monitors = [pod_monitor(name, job) for name, job in own_jobs().items()]
    return {
        "podmonitors.yaml": HEADER.format(source="../prometheus.yml") + written(*monitors),
        "rules.yaml": HEADER.format(source="../rules and ../alerts") + written(*prometheus_rules(rules)),
    }


def render() -> list[Path]:
    """Write the committed files, and return their paths."""
    folder = asset("prometheus/kubernetes")
    return [atomic_file.write(folder / name, text, READABLE) for name, text in contents().items()]


if __name__ == "__main__":
    print(*render(), sep="\n")
