"""The format `kubernetes`: the same jobs, rules and dashboards as objects for kube-prometheus-stack."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from workload.watch.files import DATASOURCE, provisioning
from workload.watch.jobs import scrape_jobs
from workload.watch.plain_yaml import written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.watch.subject import Subject

# Prometheus' names -> the operator's, for settings that both have.
OPERATOR = {
    "scrape_interval": "scrapeInterval",
    "scrape_timeout": "scrapeTimeout",
    "metrics_path": "metricsPath",
    "honor_timestamps": "honorTimestamps",
    "sample_limit": "sampleLimit",
    "label_limit": "labelLimit",
    "label_name_length_limit": "labelNameLengthLimit",
    "label_value_length_limit": "labelValueLengthLimit",
    "static_configs": "staticConfigs",
}
README = """# Written by `hop2rag watch --format kubernetes`

```sh
kubectl apply --server-side -k {place}
```

The objects have the label `release: {release}`, by which the Prometheus of a release of kube-prometheus-stack selects
them (`--release`), and lie in the namespace `{namespace}`. Grafana's sidecars load the dashboards (label
`grafana_dashboard: "1"`) and the data source (`grafana_datasource: "1"`), which asks {prometheus_url}.

`hop2rag doctor --watch FOLDER --prometheus-url URL` says what of this is alive.
"""


def scrape_config(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `ScrapeConfig` for a scrape job. Its `job` is ours; the operator's own would name the object, too."""
    relabelled = [relabelling(one) for one in job.get("metric_relabel_configs", ())]
    return {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "ScrapeConfig",
        "metadata": {"name": f"hop2rag-{job['job_name']}"},
        "spec": {
            **{OPERATOR[key]: value for key, value in job.items() if key in OPERATOR},
            "relabelings": [{"targetLabel": "job", "replacement": job["job_name"]}],
            **({"metricRelabelings": relabelled} if relabelled else {}),
        },
    }


def relabelling(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a relabelling of Prometheus' configuration under the operator's names."""
    return {"sourceLabels": config["source_labels"], "regex": config["regex"], "action": config["action"]}


def prometheus_rules(rules: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a `PrometheusRule` for each rule file, which holds the same groups."""
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"hop2rag-{path.parent.name}-{path.stem}"},
            "spec": yaml.safe_load(rules[str(path)]),
        }
        for path in map(PurePosixPath, rules)
    ]


def config_map(name: str, label: str, file: str, text: str, **annotations: str) -> dict[str, Any]:
    """Return a `ConfigMap` with one file, under the label by which a sidecar of Grafana finds it."""
    about = {"name": name, "labels": {label: "1"}} | ({"annotations": annotations} if annotations else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {file: text}}


def dashboard(path: PurePosixPath, text: str) -> dict[str, Any]:
    """Return a dashboard's `ConfigMap`; its JSON in one line, because the size of an object is limited to 1 MiB."""
    packed = json.dumps(json.loads(text), separators=(",", ":"))
    return config_map(f"hop2rag-{path.stem}", "grafana_dashboard", path.name, packed, grafana_folder="Hop2Rag")


def as_objects(
    subject: Subject,
    shared: Mapping[str, str],
    *,
    prometheus_url: str,
    tempo_uid: str,
    place: str,
    release: str,
    namespace: str,
) -> dict[str, str]:
    """Return all files by path: a kustomization, scrape jobs, rules, dashboards, the data source."""
    rules = {name: text for name, text in shared.items() if name.startswith("prometheus/")}
    boards = {PurePosixPath(name): text for name, text in shared.items() if name.startswith("grafana/dashboards/")}
    source = provisioning(
        prometheus_url=prometheus_url, place=place, interval_s=subject.interval_s, tempo_uid=tempo_uid
    )[DATASOURCE]
    files = {
        "scrape-configs.yaml": written(*map(scrape_config, scrape_jobs(subject))),
        "rules.yaml": written(*prometheus_rules(rules)),
        "datasource.yaml": written(
            config_map("hop2rag-datasource", "grafana_datasource", "hop2rag-prometheus.yaml", source)
        ),
        **{f"dashboard-{path.stem}.yaml": written(dashboard(path, text)) for path, text in boards.items()},
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "labels": [{"pairs": {"app.kubernetes.io/part-of": "hop2rag", "release": release}}],
        "resources": [*files],
    }
    told = README.format(place=place, release=release, namespace=namespace, prometheus_url=prometheus_url)
    return {"README.md": told, "kustomization.yaml": written(kustomization), **files}
