"""What only a Grafana server can show: `GRAFANA_URL=... GRAFANA_TOKEN=... pytest -m live_grafana`.

The server is to be provisioned from `grafana/`, with a Prometheus behind it that records; the token is a service
account's with the role Editor. The tests add one annotation and one snapshot and remove them.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.expansion import BUILT_IN, VARIABLE
from tests.grafana.lint import panels
from workload.dashboards.catalogue import DASHBOARDS
from workload.dashboards.files import contents
from workload.dashboards.frame import DATASOURCE_UID
from workload.export.capture import PIXELS
from workload.export.snapshot import embed
from workload.record.annotations import URL_VARIABLE, find_grafana
from workload.services.grafana import Grafana, png_size

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live_grafana
UIDS = [dashboard.uid for dashboard in DASHBOARDS]
# What Grafana adds to a dashboard that it has stored.
ADDED = ("id", "version")
MINUTES = 15


@pytest.fixture(scope="module")
def grafana() -> Iterator[Grafana]:
    """Return the Grafana that the environment names."""
    found = find_grafana()
    if found is None:
        pytest.skip(f"{URL_VARIABLE} names no Grafana")
    yield found
    found._session.close()


def ask(grafana: Grafana, method: str, path: str, body: Any = None) -> Any:
    """Return the answer to a request that the project itself never makes."""
    return grafana._session.request(method, grafana.url + path, json=body, timeout=30).json()


def committed(uid: str) -> dict[str, Any]:
    """Return a dashboard as it is committed."""
    found: dict[str, Any] = json.loads(contents()[f"{uid.removeprefix('hop2rag-')}.json"])
    return found


def test_it_is_well(grafana: Grafana) -> None:
    """Everything below depends on it."""
    assert grafana.health()["database"] == "ok"


def test_the_data_source_answers(grafana: Grafana) -> None:
    """Grafana's own backend must reach Prometheus under the uid that the dashboards start with."""
    assert ask(grafana, "GET", f"/api/datasources/uid/{DATASOURCE_UID}/health")["status"] == "OK"


@pytest.mark.parametrize("uid", UIDS)
def test_the_loader_took_the_dashboard(grafana: Grafana, uid: str) -> None:
    """A dashboard that the loader changes, or leaves out with a line in its log, is not the one that was tested."""
    answer = ask(grafana, "GET", f"/api/dashboards/uid/{uid}")
    assert answer["meta"]["provisioned"]
    loaded = {name: value for name, value in answer["dashboard"].items() if name not in ADDED}
    assert loaded == {name: value for name, value in committed(uid).items() if name not in ADDED}


@pytest.mark.parametrize("uid", UIDS)
def test_the_backend_runs_every_query(grafana: Grafana, uid: str) -> None:
    """`$__rate_interval` and its like are filled in by Grafana's backend, not by us."""
    asked = [
        {
            **target,
            "refId": f"Q{place}",
            "expr": VARIABLE.sub(lambda found: found[0] if found[1] in BUILT_IN else ".*", target["expr"]),
            "datasource": {"type": "prometheus", "uid": DATASOURCE_UID},
            "intervalMs": 1000,
            "maxDataPoints": 1000,
        }
        for place, target in enumerate(target for panel in panels(committed(uid)) for target in panel["targets"])
    ]
    body = {"queries": asked, "from": f"now-{MINUTES}m", "to": "now"}
    results = ask(grafana, "POST", "/api/ds/query", body)["results"]
    assert {name: result["error"] for name, result in results.items() if "error" in result} == {}
    assert len(results) == len(asked)


def test_an_annotation_is_found_by_its_tags(grafana: Grafana) -> None:
    """That is how dashboards ask for run windows."""
    tag, now = f"hop2rag-live-{time.time_ns()}", time.time()
    number = grafana.annotate(now - 1, now, "a test", [tag, "hop2rag-test"])
    try:
        (found,) = ask(grafana, "GET", f"/api/annotations?tags={tag}")
        assert (found["id"], found["text"], found["time"]) == (number, "a test", round((now - 1) * 1000))
    finally:
        ask(grafana, "DELETE", f"/api/annotations/{number}")


def test_a_snapshot_comes_back(grafana: Grafana) -> None:
    """Grafana stores what it is sent; the panels' data must be in it, for it asks nobody later."""
    from datetime import UTC, datetime

    from tests.stubs.panels import DASHBOARD, SPAN, KnownSeries
    from workload.export.panel_series import query_panel as find

    answers = {
        panel.key: find(panel, KnownSeries(), {"run": "r1"}, SPAN) for row in DASHBOARD.rows for panel in row.panels
    }
    start, end = (datetime.fromtimestamp(at, UTC) for at in (SPAN.start, SPAN.end))
    model = embed(DASHBOARD, answers, "hop2rag test", start, end)
    key = grafana.snapshot(model, "hop2rag test", 3600).rpartition("/")[2]
    try:
        stored = ask(grafana, "GET", f"/api/snapshots/{key}")["dashboard"]
        assert [panel.get("targets") for panel in stored["panels"]] == [
            panel.get("targets") for panel in model["panels"]
        ]
    finally:
        ask(grafana, "DELETE", f"/api/snapshots/{key}")


@pytest.mark.parametrize("kind", ["timeseries", "stat", "bargauge", "table", "heatmap", "state-timeline"])
def test_the_renderer_draws_each_kind_of_panel(grafana: Grafana, kind: str) -> None:
    """A placeholder has another size; `picture` raises on it."""
    if not grafana.can_render():
        pytest.skip("this Grafana has no image renderer")
    uid, panel = next((uid, panel) for uid in UIDS for panel in panels(committed(uid)) if panel["type"] == kind)
    now = time.time()
    picture = grafana.picture(uid, panel["id"], now - MINUTES * 60, now, variables={}, size=PIXELS)
    assert png_size(picture) == PIXELS
