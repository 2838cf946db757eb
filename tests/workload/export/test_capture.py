"""What is kept of a dashboard: by Grafana's renderer where there is one, else drawn here; never a placeholder."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.stubs.grafana import PLACEHOLDER, TOKEN, StubGrafana
from tests.stubs.panels import ARMS, BARS, DASHBOARD, LINES, SPAN, KnownSeries
from workload.dashboards.catalogue import Dashboard, Row
from workload.dashboards.frame import render
from workload.errors import StorageError
from workload.export.capture import PIXELS, WHOLE, Capture, arms_of, capture, scope_of
from workload.export.panel_series import query_panel
from workload.services.grafana import Grafana, png_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCOPE = {"run": "r1"}
# One panel is enough where it is drawn here.
SHORT = Dashboard("overview", "Overview", "what", (Row("first", DASHBOARD.rows[0].panels[:1]),))


@pytest.fixture
def server() -> Iterator[StubGrafana]:
    """Return a Grafana that has the dashboards; every request must be as its specification wants it."""
    with StubGrafana() as running:
        running.dashboards["hop2rag-overview"] = json.loads(render(DASHBOARD))
        yield running
    assert running.faults == []


def kept(
    folder: Path, server: StubGrafana | None, dashboard: Dashboard = SHORT, *, keeps_snapshot: bool = False
) -> Capture:
    """Return what is kept of a dashboard."""
    grafana = Grafana(server.url, TOKEN) if server else None
    return capture(
        dashboard, KnownSeries(), SCOPE, SPAN, folder, footer="run r1", grafana=grafana, keeps_snapshot=keeps_snapshot
    )


def test_a_renderer_draws_every_panel(tmp_path: Path, server: StubGrafana) -> None:
    """The dashboard's own pictures, of the run's time and of the run alone."""
    found = kept(tmp_path, server, DASHBOARD)
    pictures = [path for path in tmp_path.glob("*.png") if path.name != WHOLE]
    assert found.rendered == len(pictures) == 7
    assert {png_size(path.read_bytes()) for path in pictures} == {PIXELS}
    asked = [query for _, path, query, _ in server.requests if path.startswith("/render")]
    assert {(query["from"], query["to"], query["var-run"]) for query in asked} == {
        ("1700000000000", "1700000060000", "r1")
    }
    panels = [panel for panel in server.dashboards["hop2rag-overview"]["panels"] if panel["type"] != "row"]
    assert [int(query["panelId"]) for query in asked] == [panel["id"] for panel in panels]
    assert found.empty == ("A silent one",)
    assert found.snapshot is None


def test_a_panel_in_a_closed_row_is_drawn_too(tmp_path: Path, server: StubGrafana) -> None:
    """Most rows of the overview are closed, and Grafana keeps their panels within them."""
    closed = Row("second", DASHBOARD.rows[1].panels[:1], is_open=False)
    dashboard = replace(SHORT, rows=(*SHORT.rows, closed))
    server.dashboards["hop2rag-overview"] = json.loads(render(dashboard))
    assert kept(tmp_path, server, dashboard).rendered == 2


@pytest.mark.parametrize(
    ("arms", "baseline"),
    [(["prefix-on", "prefix-off"], "prefix-off"), (["low", "high", "low"], "high"), ([], "prefix-off")],
)
def test_arms_are_compared_with_the_one_that_grafana_chooses(arms: list[str], baseline: str) -> None:
    """Each arm was compared with the sum of all, and read about half of itself."""
    assert scope_of("r1", arms) == {"run": "r1", "baseline": baseline}


def test_data_and_queries_lie_next_to_the_pictures(tmp_path: Path, server: StubGrafana) -> None:
    """A picture without its numbers cannot be checked, and numbers without their query cannot be repeated."""
    kept(tmp_path, server, DASHBOARD)
    pictures = {path.stem for path in tmp_path.glob("*.png") if path.name != WHOLE}
    assert {path.stem for path in tmp_path.glob("*.csv")} == pictures
    promql = json.loads((tmp_path / "promql.json").read_text())
    assert promql["bargauge"] == ['sum by (node) (increase(bars{run="r1",phase!="warmup"}[60000ms]))']
    assert promql["silent"] == ['silent{run="r1",phase!="warmup"}']


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        ("no renderer", "has no image renderer"),
        ("over its limit", "placeholder instead of panel 2 of hop2rag-overview"),
        ("no such dashboard", "HTTP 404: Dashboard not found"),
        ("no such panel", ""),
    ],
)
def test_what_grafana_cannot_draw_is_drawn_here(tmp_path: Path, server: StubGrafana, state: str, refusal: str) -> None:
    """Its placeholder has status 200; kept as a panel, it would be found when the run cannot be repeated."""
    server.has_renderer, server.is_over_limit = state != "no renderer", state == "over its limit"
    if state == "no such dashboard":
        server.dashboards.clear()
    if state == "no such panel":
        server.dashboards["hop2rag-overview"]["panels"] = []
    found = kept(tmp_path, server)
    sizes = {png_size(path.read_bytes()) for path in tmp_path.glob("*.png")}
    assert found.rendered == 0
    assert refusal in (found.refusal or "")
    assert sizes
    assert not sizes & {None, PLACEHOLDER}


def test_without_grafana_everything_is_drawn_here(tmp_path: Path) -> None:
    """The export needs nothing but Prometheus."""
    found = kept(tmp_path, None)
    assert (found.rendered, len(found.files)) == (0, 4)
    assert all(path.stat().st_size for path in found.files)


def test_a_snapshot_is_kept(tmp_path: Path, server: StubGrafana) -> None:
    """Its address is what the user shares."""
    server.has_renderer = False
    assert kept(tmp_path, server, keeps_snapshot=True).snapshot == f"{server.url}/dashboard/snapshot/K"
    body = server.requests[-1][3]
    assert body["name"] == "Overview (r1)"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A disk that is full, or a typing error in --out."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/x/.* cannot be written: Not a directory"):
        kept(tmp_path / "file" / "x", None)


def test_arms_have_the_same_order_in_every_picture() -> None:
    """A series of no arm must not move the colours of the others by one."""
    answers = [answer for panel in (BARS, LINES) for answer in query_panel(panel, KnownSeries(), SCOPE, SPAN)]
    assert arms_of(answers) == list(ARMS)
