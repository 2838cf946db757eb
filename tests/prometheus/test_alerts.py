"""The alerts: every one with its runbook, its labels and its cases, which promtool runs on the rules as shipped."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.prometheus.narrowing import read_suite, write_narrowed
from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = sorted(asset("prometheus/alerts").glob("*.yml"))
RULES = [rule for file in FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
ALERTS: list[dict[str, Any]] = [rule for rule in RULES if "alert" in rule]
CASES = sorted((Path(__file__).parent / "alerts").glob("*.yml"))
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
DASHBOARDS = {json.loads(path.read_text())["uid"] for path in asset("grafana/dashboards").glob("*.json")}
SECONDS = {"s": 1, "m": 60, "h": 3600}
STEERING_PATIENCE_SECONDS = 5
PAGE_PATIENCE_SECONDS = 60
PARTS = ("**Means**", "**See it**", "**Likely causes", "**Do**", "**Dashboard**", "**Wake someone?**", "**Owner**")


def seconds(duration: str) -> int:
    """Return a Prometheus duration of one unit in seconds."""
    return int(duration[:-1]) * SECONDS[duration[-1]]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_where_and_what_to_do(alert: dict[str, Any]) -> None:
    """Whoever is woken by it has nothing else to go by; a receiver steers by the labels."""
    name = alert["alert"]
    assert re.fullmatch(r"(Vllm|Llm|Gpu|Sampler|Exporter|Workload|Disk|Scrape|Rule|Hop2RagWatch)[A-Za-z]+", name)
    assert alert["labels"]["severity"] in {"page", "warning", "none"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    link = re.fullmatch(r"/d/(hop2rag-[a-z-]+)(.*)", alert["annotations"]["dashboard_url"])
    assert link
    assert link[1] in DASHBOARDS
    # of a target without a run: a dashboard would open with the newest one
    assert link[2] == "?var-run={{ with $labels.run }}{{ . | urlquery }}{{ else }}.*{{ end }}"
    assert f"`/d/{link[1]}`" in (RUNBOOKS / f"{name}.md").read_text(), "the runbook names another dashboard"


def test_what_steers_does_not_wait() -> None:
    """From a condition to the action there are 15 s, and Prometheus and Alertmanager need their part of them."""
    steering = [alert for alert in ALERTS if "action" in alert["labels"]]
    assert {alert["labels"]["action"] for alert in steering} == {"capture", "reduce", "pause", "stop"}
    waits = {alert["alert"]: seconds(alert.get("for", "0s")) for alert in steering}
    assert {name: wait for name, wait in waits.items() if wait > STEERING_PATIENCE_SECONDS} == {}


def test_what_wakes_a_person_has_lasted() -> None:
    """A model that reloads for a minute wakes nobody, and a page never steers: the runner has acted long before."""
    pages = [alert for alert in ALERTS if alert["labels"]["severity"] == "page"]
    assert pages
    assert all(seconds(alert["for"]) >= PAGE_PATIENCE_SECONDS and "action" not in alert["labels"] for alert in pages)
    steering = {alert["alert"] for alert in ALERTS if "action" in alert["labels"]}
    assert {alert["alert"] for alert in pages} <= steering


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """A dead link at night, or a page on an alert that no longer exists."""
    pages = {page.stem: page.read_text() for page in RUNBOOKS.glob("*.md") if page.name != "README.md"}
    assert pages.keys() == {alert["alert"] for alert in ALERTS}
    for name, text in pages.items():
        assert text.startswith(f"# {name}\n")
        missing = [part for part in PARTS if part not in text]
        assert not missing, name


def test_runbooks_name_only_what_exists() -> None:
    """A query that matches nothing misleads at the worst moment."""
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for file in asset("prometheus/rules").glob("*.yml"):
        recorded |= set(re.findall(r"record: (\S+)", file.read_text()))
    alerts = {alert["alert"] for alert in ALERTS}
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        assert set(re.findall(r"instance:[\w:]+", text)) <= recorded, page.name
        assert set(re.findall(r"\b(?:Vllm|Llm|Gpu|Exporter|Workload|Sampler|Scrape|Rule)[A-Z]\w+", text)) <= alerts, (
            page.name
        )


def test_every_alert_is_tried_in_every_way() -> None:
    """That an alert fires is the lesser half: one that cries on an idle server, or after a restart, is turned off."""
    named = [test["name"] for file in CASES for test in yaml.safe_load(file.read_text())["tests"]]
    kinds = ("fires", "silent", "series missing", "reset")
    wanted = set(product({alert["alert"] for alert in ALERTS}, kinds)) - {
        ("Hop2RagWatchdog", "silent"),  # it never is
        ("Hop2RagWatchdog", "reset"),  # it reads no series
        ("DiskWritesFailing", "reset"),  # it reads no counter
    }
    tried = {
        (name.partition(":")[0], kind) for name in named for kind in kinds if name.partition(": ")[2].startswith(kind)
    }
    assert tried == wanted
    assert len(named) == len(set(named))


@pytest.mark.prometheus
@pytest.mark.parametrize("cases", CASES, ids=lambda cases: cases.stem)
def test_alerts_fire_and_keep_silent(cases: Path, promtool: Callable[..., str], tmp_path: Path) -> None:
    """Promtool runs the rules as Prometheus will."""
    assert "SUCCESS" in promtool("test", "rules", *write_narrowed(read_suite(cases), tmp_path))


@pytest.mark.prometheus
def test_promtool_accepts_the_rules(promtool: Callable[..., str]) -> None:
    """One rule it refuses, and Prometheus starts with none of them."""
    printed = promtool("check", "rules", "--lint=all", "--lint-fatal", *FILES)
    assert sum(map(int, re.findall(r"SUCCESS: (\d+) rules", printed))) == len(RULES)
