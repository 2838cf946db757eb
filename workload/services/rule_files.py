"""The rule files of an installation: links from alerts to runbooks and dashboards, and windows for its scrape interval.

The committed links are paths, and the windows are for a scrape every second. A Prometheus that we start gets its links
from HOP2RAG_RUNBOOK_BASE (else the files of this checkout) and GRAFANA_URL; `hop2rag watch` writes those of another.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import yaml

from workload.errors import UsageError
from workload.paths import asset
from workload.promql.scrape_interval import dashboard_at, rules_at
from workload.promql.scrapes import of_live_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

BASE_VARIABLE, GRAFANA_VARIABLE = "HOP2RAG_RUNBOOK_BASE", "GRAFANA_URL"
PAGES, OUR_GRAFANA = "docs/runbooks", "http://127.0.0.1:3000"
BASE_PATTERN = re.compile(r"(https?|file)://[^\s{}'\"\\]+")
RUNBOOK = re.compile(r"(?m)^( *runbook_url: ).*/(\w+\.md)$")
DASHBOARD = re.compile(r"(?m)^( *dashboard_url: ).*?(/d/hop2rag-.+)$")


def bases_of_this_host(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return the base URLs of runbooks and dashboards: those in the environment, else this checkout and our Grafana.

    Raises:
        UsageError: a variable is not a URL.
    """
    pages = environ.get(BASE_VARIABLE) or asset(PAGES).resolve().as_uri()
    return checked(pages), checked(environ.get(GRAFANA_VARIABLE) or OUR_GRAFANA)


def checked(base: str) -> str:
    """Return a base URL without a trailing slash.

    Raises:
        UsageError: it is not an http(s) or file URL, or Prometheus would read it as a template.
    """
    if not BASE_PATTERN.fullmatch(base):
        raise UsageError(f"{base!r} is not a URL to which alerts can link.", "Write it as https://HOST/PATH.")
    return base.rstrip("/")


def linked(rules: str, runbooks: str = PAGES, grafana: str = "") -> str:
    """Return the text of a rule file whose alerts link below these bases; the defaults are those of committed files."""
    rules = RUNBOOK.sub(lambda found: f"{found[1]}{runbooks}/{found[2]}", rules)
    return DASHBOARD.sub(lambda found: f"{found[1]}{grafana}{found[2]}", rules)


def alerts_on_live_targets(files: Iterable[Path], since: float) -> str:
    """Return the rule groups of `files` as one file; its alerts ignore targets last scraped before `since`.

    An alert without a `run` label, such as one on Prometheus itself, is unchanged. Links become absolute.

    Args:
        files: rule files with alerts.
        since: when Prometheus is started, in seconds since the epoch.

    Raises:
        UsageError: HOP2RAG_RUNBOOK_BASE or GRAFANA_URL is not a URL.
    """
    bases = bases_of_this_host()
    texts = [linked(path.read_text(), *bases) for path in files]
    groups: list[dict[str, Any]] = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        rule["expr"] = of_live_targets(rule["expr"], since)
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)


def files_at(interval_s: int) -> dict[str, str]:
    """Return rules, alerts and dashboards for a scrape interval in seconds, by their paths in this repository."""
    change = {"prometheus/rules": rules_at, "prometheus/alerts": rules_at, "grafana/dashboards": dashboard_at}
    paths = {f"{folder}/{path.name}": path for folder in change for path in sorted(asset(folder).glob("*.*"))}
    return {name: change[name.rpartition("/")[0]](path.read_text(), interval_s) for name, path in paths.items()}
