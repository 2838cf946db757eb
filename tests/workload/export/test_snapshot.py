"""A snapshot contains its data as Grafana's own do, and queries no server."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.stubs.grafana import TOKEN, StubGrafana
from tests.stubs.panels import DASHBOARD, HEAT, LINES, SPAN, STAT, TABLE, KnownSeries
from workload.export.panel_series import query_panel
from workload.export.snapshot import embed, frames
from workload.services.grafana import Grafana


@pytest.fixture
def model() -> dict[str, Any]:
    """Return a dashboard with panels of every kind, some in a closed row, their data embedded."""
    first, second = DASHBOARD.rows
    dashboard = replace(DASHBOARD, rows=(first, replace(second, is_open=False)))
    panels = [panel for row in DASHBOARD.rows for panel in row.panels]
    answers = {panel.key: query_panel(panel, KnownSeries(), {"run": "r1"}, SPAN) for panel in panels}
    start, end = (datetime.fromtimestamp(at, UTC) for at in (SPAN.start, SPAN.end))
    return embed(dashboard, answers, "r1", start, end)


def test_it_asks_nothing(model: dict[str, Any]) -> None:
    """A snapshot outlives the Prometheus that it was made from; one query left, and a panel is an error."""
    text = json.dumps(model["panels"])
    assert '"expr"' not in text
    assert "${datasource}" not in text
    assert model["annotations"]["list"] == []
    variables = {variable["name"]: variable for variable in model["templating"]["list"]}
    assert {variable["query"] for variable in variables.values()} == {""}
    assert variables["run"]["current"] == {"text": "r1", "value": "r1"}
    assert (model["time"]["from"], model["refresh"]) == ("2023-11-14T22:13:20+00:00", "")


def test_grafana_takes_it(model: dict[str, Any]) -> None:
    """Its body is checked against the specification: JSON has no NaN, and each frame has as many columns as fields."""
    with StubGrafana() as server:
        assert Grafana(server.url, TOKEN).snapshot(model, "r1").endswith("/dashboard/snapshot/K")
        assert server.faults == []
        ((_, _, _, body),) = server.requests
    rows = body["dashboard"]["panels"]
    drawn = [panel for row in rows for panel in (row, *row.get("panels", ())) if panel["type"] != "row"]
    found = [frame for panel in drawn for frame in panel["targets"][0]["snapshot"]]
    assert len(found) == 2 + 2 + 2 + 1 + 1 + 2
    assert all(len(frame["schema"]["fields"]) == len(frame["data"]["values"]) for frame in found)


def test_a_gap_is_a_null_that_says_what_it_was() -> None:
    """Zero would be a measurement."""
    frame, _ = frames(LINES, query_panel(LINES, KnownSeries(), {}, SPAN))
    times, values = frame["data"]["values"]
    assert (times[0], values[0], values[-1]) == (1_700_000_000_000, None, 3.0)
    assert frame["data"]["entities"] == [None, {"NaN": list(range(30))}]
    assert frame["schema"]["fields"][1]["config"] == {"displayNameFromDS": "prefix-off decide"}


def test_a_state_keeps_its_number() -> None:
    """The words are the panel's; the data are what was measured."""
    frame = frames(STAT, query_panel(STAT, KnownSeries(), {}, SPAN))[1]
    assert set(frame["data"]["values"][1]) == {1.0}


def test_a_table_has_the_columns_that_its_panel_renames() -> None:
    """Under another name a column would be shown as `Value #A`, without its unit."""
    first, second = frames(TABLE, query_panel(TABLE, KnownSeries(), {}, SPAN))
    assert [field["name"] for field in first["schema"]["fields"]] == ["Time", "arm", "Value #A"]
    assert [field["name"] for field in second["schema"]["fields"]] == ["Time", "arm", "Value #B"]
    assert second["data"]["values"][1:] == [["prefix-on"], [0.125]]


def test_a_heatmap_counts_each_bucket_alone() -> None:
    """Prometheus counts what lies below a bound: drawn as it is, the highest bucket would always be the darkest."""
    (frame,) = frames(HEAT, query_panel(HEAT, KnownSeries(), {}, SPAN))
    assert [field["name"] for field in frame["schema"]["fields"]] == ["Time", "0.5", "1.0", "+Inf"]
    assert [column[0] for column in frame["data"]["values"][1:]] == [2.0, 3.0, 4.0]
    assert frame["schema"]["meta"] == {"type": "heatmap-rows"}
    assert frames(HEAT, []) == []
