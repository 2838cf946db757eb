"""Every format has the same queries, meets nothing that is there already, and is written the same twice."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.grafana.test_provisioning import FOREIGN, FOREIGN_UIDS, clashes
from tests.prometheus.conftest import running
from workload.errors import UsageError
from workload.paths import asset, cache_dir
from workload.services.prometheus_binary import find_prometheus
from workload.watch.render import Surroundings, rendered
from workload.watch.subject import subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Surroundings(place="/etc/hop2rag")
CASES = Path(__file__).parents[2] / "prometheus" / "alerts"


@cache
def of(form: Any, interval: str, **more: str) -> dict[str, str]:
    """Return the files of a format."""
    watched = subject("http://vllm:8000", "agent:9465", "gpu:9400", scrape_interval=interval)
    return rendered(watched, form, Surroundings(place="/etc/hop2rag", **more))


def objects(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return all objects of the format `kubernetes`."""
    texts = [text for name, text in files.items() if name.endswith(".yaml") and name != "kustomization.yaml"]
    return [one for text in texts for one in yaml.load_all(text, Loader=yaml.CSafeLoader)]


def values(tree: Any, key: str) -> Iterator[Any]:
    """Yield every value of a key in a tree, in the tree's order."""
    for name, inner in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if name == key:
            yield inner
        yield from values(inner, key)


def parsed(text: str) -> Any:
    """Return what a file of YAML says."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def name_of(one: dict[str, Any]) -> str:
    """Return an object's name."""
    return str(one["metadata"]["name"])


def queries(rules: list[Any], boards: list[Any]) -> list[str]:
    """Return all PromQL of rules and dashboards."""
    found = [str(each) for trees in (rules, boards) for tree in trees for each in values(tree, "expr")]
    assert len(found) > 150
    return found


def of_files(files: Mapping[str, str]) -> list[str]:
    """Return the PromQL of files as Prometheus and Grafana read them."""
    rules = [parsed(files[name]) for name in sorted(files) if name.startswith(("prometheus/a", "prometheus/r"))]
    return queries(rules, [json.loads(files[name]) for name in sorted(files) if name.endswith(".json")])


def of_objects(files: Mapping[str, str]) -> list[str]:
    """Return the PromQL of objects, once the operator and the sidecar have unpacked them."""
    found = objects(files)
    rules = [one["spec"] for one in sorted(found, key=name_of) if one["kind"] == "PrometheusRule"]
    maps = [one["data"] for one in found if one["kind"] == "ConfigMap"]
    boards = {name: text for data in maps for name, text in data.items() if name.endswith(".json")}
    return queries(rules, [json.loads(boards[name]) for name in sorted(boards)])


@pytest.mark.parametrize("interval", ["1s", "15s", "30s"])
def test_promql_is_the_same_in_every_format(interval: str) -> None:
    """A panel that reads a name which the rules of the other format record shows nothing."""
    files = of("files", interval)
    assert of_objects(of("kubernetes", interval)) == of_files(files)
    committed = {name: asset(name).read_text() for name in files if name.endswith((".json", ".yml")) and "/a" in name}
    if interval == "1s":  # what a host and compose load
        ours = {name: text for name, text in files.items() if name in committed}
        assert ours == committed
    else:
        assert not [expr for expr in of_files(files) if "rate10s" in expr or "[10s]" in expr]


@pytest.mark.prometheus
def test_rules_out_of_objects_pass_the_tests_of_rules(tmp_path: Path) -> None:
    """The operator writes the groups of an object into a file; promtool tests that file, and accepts all of them."""
    folder = tmp_path / "prometheus" / "alerts"
    (tmp_path / "tests" / "prometheus" / "alerts").mkdir(parents=True)
    folder.mkdir(parents=True)
    promtool = running(find_prometheus(cache_dir()))
    for one in objects(of("kubernetes", "1s")):
        if one["kind"] == "PrometheusRule":
            kind, name = one["metadata"]["name"].removeprefix("hop2rag-").split("-")
            path = tmp_path / "prometheus" / kind / f"{name}.yml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(one["spec"]))
            assert one["spec"] == yaml.safe_load(asset(f"prometheus/{kind}/{name}.yml").read_text())
    tests = [tmp_path / "tests" / "prometheus" / "alerts" / f"{name}.yml" for name in ("pages", "workload", "watchdog")]
    for path in tests:
        path.write_text((CASES / path.name).read_text())
    assert "SUCCESS" in promtool("test", "rules", *tests)
    assert "SUCCESS" in promtool(
        "check", "rules", *folder.glob("*.yml"), *(tmp_path / "prometheus/rules").glob("*.yml")
    )


@pytest.mark.parametrize("form", ["files", "kubernetes"])
def test_nothing_meets_what_kube_prometheus_stack_provisions(form: str) -> None:
    """Two defaults keep Grafana from starting; one uid twice takes write permission from both providers."""
    files = of(form, "15s")
    if form == "files":
        texts = [text for name, text in files.items() if "/datasources/" in name]
        boards = [json.loads(text) for name, text in files.items() if name.endswith(".json")]
    else:
        maps = [one for one in objects(files) if one["kind"] == "ConfigMap"]
        labelled = [(one["metadata"]["labels"], text) for one in maps for text in one["data"].values()]
        texts = [text for labels, text in labelled if labels == {"grafana_datasource": "1"}]
        boards = [json.loads(text) for labels, text in labelled if labels == {"grafana_dashboard": "1"}]
    (source,) = texts
    merged = [yaml.safe_load(FOREIGN), yaml.safe_load(source)]
    assert clashes(merged) == []
    defaults = [one["name"] for file in merged for one in file["datasources"] if one.get("isDefault")]
    assert defaults == ["Prometheus"]
    uids = [board["uid"] for board in boards]
    assert len(uids) > 8
    assert len({*uids} | FOREIGN_UIDS) == len(uids) + len(FOREIGN_UIDS)
    assert {one["uid"] for one in merged[1]["datasources"]} == {"hop2rag-prometheus"}
    assert merged[1]["datasources"][0]["jsonData"]["timeInterval"] == "15s"


@pytest.mark.parametrize("form", ["files", "kubernetes"])
def test_rendering_twice_gives_the_same_bytes(form: str) -> None:
    """Whoever keeps the folder in a repository sees only what changed."""
    assert of.__wrapped__(form, "15s") == of(form, "15s")


def test_links_and_addresses_are_those_that_are_given() -> None:
    """A link that leads nowhere is noticed at night."""
    files = of("files", "15s", runbooks="https://pages/r", grafana="https://grafana", prometheus_url="http://prom:9090")
    alerts = [text for name, text in files.items() if name.startswith("prometheus/alerts/")]
    links = [link for text in alerts for link in values(yaml.safe_load(text), "runbook_url")]
    assert links
    assert all(link.startswith("https://pages/r/") for link in links)
    provisioning = "".join(text for name, text in files.items() if "/provisioning/" in name)
    assert "url: http://prom:9090" in provisioning
    assert "path: /etc/hop2rag/grafana/dashboards" in provisioning
    assert "$HOP2RAG" not in provisioning
    assert "exemplar" not in provisioning
    with pytest.raises(UsageError, match="not a URL"):
        of("files", "15s", grafana="javascript:x")


def test_an_object_carries_the_release_and_a_job_of_ours() -> None:
    """The Prometheus of the stack selects by release; our rules select by job."""
    files = of("kubernetes", "15s", release="monitoring", namespace="metrics")
    kustomization = yaml.safe_load(files["kustomization.yaml"])
    assert kustomization["labels"][0]["pairs"]["release"] == "monitoring"
    assert kustomization["namespace"] == "metrics"
    assert {*kustomization["resources"]} == {*files} - {"README.md", "kustomization.yaml"}
    jobs = [one["spec"]["relabelings"] for one in objects(files) if one["kind"] == "ScrapeConfig"]
    names = [config[0]["replacement"] for config in jobs]
    assert names == ["vllm", "vllm-fast", "exporter", "exporter-timeline", "workload", "workload-timeline"]
    assert all(config == [{"targetLabel": "job", "replacement": config[0]["replacement"]}] for config in jobs)


@pytest.mark.parametrize("form", ["files", "kubernetes"])
def test_trace_ids_open_in_the_tempo_that_is_named(form: str) -> None:
    """Without it they would lead to a data source that does not exist."""
    named = [text for text in of(form, "15s", tempo_uid="our-tempo").values() if "datasourceUid: our-tempo" in text]
    assert len(named) == 1
