"""What Grafana loads at its start: files that fit each other, Prometheus' configuration, and the dashboards."""

from __future__ import annotations

import json
from typing import Any

import yaml

from workload.dashboards.files import FOLDER
from workload.dashboards.frame import DATASOURCE_UID
from workload.paths import asset

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


def test_providers_read_folders_that_exist_and_let_nobody_edit() -> None:
    """An edit in the browser would be lost at the next start, and a wrong path loads nothing without a word."""
    for provider in provisioned("dashboards"):
        assert provider["allowUiUpdates"] is False
        assert provider["options"]["path"] == "$HOP2RAG_GRAFANA/dashboards"
    assert FOLDER == GRAFANA / "dashboards"
    assert list(FOLDER.glob("*.json"))


def test_titles_and_uids_are_unique() -> None:
    """Two dashboards of one title in a folder, or of one uid at all: Grafana loads one of them."""
    found = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    assert len({each["title"] for each in found}) == len({each["uid"] for each in found}) == len(found)


def test_dashboards_are_no_exports() -> None:
    """`__inputs` and ${DS_...} are of files to be imported by hand; provisioning fills them with nothing."""
    for path in FOLDER.glob("*.json"):
        assert "__inputs" not in path.read_text()
        assert "${DS_" not in path.read_text()
