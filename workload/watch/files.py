"""The format `files`: scrape jobs, rules, dashboards and provisioning for a Prometheus and a Grafana on some host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from workload.paths import asset
from workload.watch.jobs import scrape_jobs
from workload.watch.plain_yaml import written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.watch.subject import Subject

SERVER, PROVISIONING = "prometheus", "grafana/provisioning"
DATASOURCE, PROVIDER = f"{PROVISIONING}/datasources/prometheus.yml", f"{PROVISIONING}/dashboards/hop2rag.yml"
README = """# Written by `hop2rag watch`

Prometheus 2.43 or newer: add to its prometheus.yml, then reload it.

```yaml
scrape_config_files: [{place}/prometheus/scrape_configs.yml]
rule_files:
  - {place}/prometheus/rules/*.yml
  - {place}/prometheus/alerts/*.yml
```

Where these keys have values, add ours to the list. Prometheus 2.42 has no `scrape_config_files`: copy the jobs.

Grafana: copy the files in `grafana/provisioning/datasources` and `grafana/provisioning/dashboards` into the folders of
the same names of its own provisioning, and restart it. It reads the dashboards in {place}/grafana/dashboards.

`hop2rag doctor --watch FOLDER --prometheus-url URL` says what of this is alive.
"""


def provisioning(*, prometheus_url: str, place: str, interval_s: int, tempo_uid: str) -> dict[str, str]:
    """Return the two files of Grafana's provisioning, by path; without a Tempo no trace id is a link."""
    source, provider = (asset(name).read_text() for name in (DATASOURCE, PROVIDER))
    source = source.replace("$HOP2RAG_PROMETHEUS_URL", prometheus_url)
    source = source.replace("timeInterval: 1s", f"timeInterval: {interval_s}s")
    source = source.replace("$HOP2RAG_TEMPO_UID", tempo_uid)
    # The comments speak of variables that have their values now.
    sources = yaml.safe_load(source)
    if not tempo_uid:
        for one in sources["datasources"]:
            del one["jsonData"]["exemplarTraceIdDestinations"]
    providers = yaml.safe_load(provider.replace("$HOP2RAG_GRAFANA", f"{place}/grafana"))
    return {DATASOURCE: written(sources), PROVIDER: written(providers)}


def as_files(
    subject: Subject, shared: Mapping[str, str], *, prometheus_url: str, place: str, tempo_uid: str
) -> dict[str, str]:
    """Return all files by path, among them the shared rules and dashboards; `place` is where the servers see them."""
    jobs = {"scrape_configs": scrape_jobs(subject)}
    return {
        "README.md": README.format(place=place),
        f"{SERVER}/scrape_configs.yml": written(jobs),
        **shared,
        **provisioning(prometheus_url=prometheus_url, place=place, interval_s=subject.interval_s, tempo_uid=tempo_uid),
    }
