"""What Grafana loads at its start: files that fit each other, Prometheus' configuration, and the dashboards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from exporter.agent.spans import exemplar_of
from tests.grafana.lint import panels
from workload.dashboards.files import FOLDER
from workload.dashboards.frame import DATASOURCE_UID
from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Iterable

GRAFANA = FOLDER.parent


def provisioned(kind: str) -> list[dict[str, Any]]:
    """Return the entries of all files of a kind."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((GRAFANA / "provisioning" / kind).glob("*.yml"))]
    assert files
    assert all(file["apiVersion"] == 1 for file in files)
    return [entry for file in files for entry in file["providers" if kind == "dashboards" else kind]]


def test_every_datasource_that_a_dashboard_starts_with_exists() -> None:
    """A uid that nobody provisions shows as an error on every panel of the dashboard."""
    sources = provisioned("datasources")
    uids = [source["uid"] for source in sources]
    assert uids == [DATASOURCE_UID]
    assert [source["isDefault"] for source in sources] == [False]
    for path in FOLDER.glob("*.json"):
        variables = json.loads(path.read_text())["templating"]["list"]
        starts = [variable["current"]["value"] for variable in variables if variable["type"] == "datasource"]
        assert starts == uids


def test_the_datasource_knows_the_scrape_interval() -> None:
    """Grafana computes the window of every rate from it; with its own 15 s a panel would average over a minute."""
    scrape = yaml.safe_load(asset("prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert {source["jsonData"]["timeInterval"] for source in provisioned("datasources")} == {scrape}


def test_an_exemplar_leads_to_the_trace_of_its_label() -> None:
    """The label's name stands in two places; with another one Grafana shows the points and links nowhere."""
    span = NonRecordingSpan(SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
    for source in provisioned("datasources"):
        links = source["jsonData"]["exemplarTraceIdDestinations"]
        assert {link["name"] for link in links} == set(exemplar_of(span) or ())
    asked = [
        target["expr"]
        for path in FOLDER.glob("*.json")
        for panel in panels(json.loads(path.read_text()))
        for target in panel.get("targets", ())
        if target.get("exemplar")
    ]
    assert asked
    assert all("_seconds_bucket" in query for query in asked)


def test_providers_read_folders_that_exist_and_let_nobody_edit() -> None:
    """An edit in the browser would be lost at the next start, and a wrong path loads nothing without a word."""
    for provider in provisioned("dashboards"):
        assert provider["allowUiUpdates"] is False
        assert provider["options"]["path"] == "$HOP2RAG_GRAFANA/dashboards"
    assert FOLDER == GRAFANA / "dashboards"
    assert list(FOLDER.glob("*.json"))


# What kube-prometheus-stack provisions, and the llm-d project's stack beside it.
FOREIGN = """
apiVersion: 1
datasources:
  - {name: Prometheus, uid: prometheus, type: prometheus, url: http://stack:9090, access: proxy, isDefault: true}
  - {name: Alertmanager, uid: alertmanager, type: alertmanager, url: http://stack:9093, access: proxy}
"""
FOREIGN_UIDS = {"overview", "latency", "pipeline", "concurrency", "vllm", "performance-statistics", "query-statistics"}


def clashes(files: Iterable[dict[str, Any]]) -> list[str]:
    """Return what keeps Grafana from starting, or makes one file take the data source of another."""
    sources = [source for file in files for source in file["datasources"]]
    found = [f"{sum(source.get('isDefault', False) for source in sources)} defaults"]
    for key in ("name", "uid"):
        values = [source[key] for source in sources]
        found += [f"{key} {value} twice" for value in sorted(set(values)) if values.count(value) > 1]
    return [each for each in found if each not in {"0 defaults", "1 defaults"}]


def test_row_31_nothing_of_ours_meets_what_a_grafana_has_already() -> None:
    """Two defaults and it does not start; one uid twice and both providers lose write permission, without a word.

    `prune` and `deleteDatasources` reach what is named in our own files alone.
    """
    foreign = yaml.safe_load(FOREIGN)
    ours = [yaml.safe_load(path.read_text()) for path in sorted((GRAFANA / "provisioning/datasources").glob("*.yml"))]
    assert clashes([foreign, *ours]) == []
    theirs = {source["name"] for source in foreign["datasources"]}
    assert not theirs & {each["name"] for file in ours for each in file.get("deleteDatasources", ())}
    uids = {json.loads(path.read_text())["uid"] for path in FOLDER.glob("*.json")}
    assert not uids & FOREIGN_UIDS
    assert all(uid.startswith("hop2rag-") for uid in uids)
    providers = provisioned("dashboards")
    assert {(each["name"], each["folderUid"]) for each in providers} == {("hop2rag", "hop2rag")}


def test_the_check_of_clashes_sees_them() -> None:
    """Ours as they were: default, and under everybody's name."""
    foreign = yaml.safe_load(FOREIGN)
    assert clashes([foreign, foreign]) == [
        "2 defaults",
        *sorted(f"name {name} twice" for name in ("Alertmanager", "Prometheus")),
        *sorted(f"uid {uid} twice" for uid in ("alertmanager", "prometheus")),
    ]


def test_titles_and_uids_are_unique() -> None:
    """Two dashboards of one title in a folder, or of one uid at all: Grafana loads one of them."""
    found = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    assert len({each["title"] for each in found}) == len({each["uid"] for each in found}) == len(found)


def test_dashboards_are_no_exports() -> None:
    """`__inputs` and ${DS_...} are of files to be imported by hand; provisioning fills them with nothing."""
    for path in FOLDER.glob("*.json"):
        assert "__inputs" not in path.read_text()
        assert "${DS_" not in path.read_text()
