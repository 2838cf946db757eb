"""Embeds the data in a dashboard, as Grafana's snapshots do, so that it no longer needs Prometheus."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from workload.dashboards.frame import render
from workload.export.panel_series import PanelSeries, by_bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from workload.dashboards.catalogue import Dashboard
    from workload.panels.panel import Panel

    Json = dict[str, Any]
    Column = tuple[Json, list[Any]]

# Grafana's own data source, which returns the data embedded in the query.
EMBEDDED = {"type": "grafana", "uid": "grafana"}
NOT_FINITE: Mapping[str, Callable[[float], bool]] = {
    "NaN": math.isnan,
    "Inf": lambda value: value == math.inf,
    "NegInf": lambda value: value == -math.inf,
}


def title_of(dashboard: Dashboard, run: str) -> str:
    """Return what the snapshot of a dashboard of a run is called."""
    return f"{dashboard.title} ({run})"


def embed(
    dashboard: Dashboard,
    answers: Mapping[str, Sequence[PanelSeries]],
    run: str,
    start: datetime,
    end: datetime,
) -> Json:
    """Return a dashboard's JSON with each panel's data of a run embedded, so that no panel queries a server.

    `answers` has the series of each panel by its key; `start` and `end` bound the time range.
    """
    model: Json = json.loads(render(dashboard))
    model |= {
        "title": title_of(dashboard, run),
        "time": {"from": start.isoformat(), "to": end.isoformat()},
        "refresh": "",
        "links": [],
    }
    model["annotations"] = {"list": []}
    for variable in model["templating"]["list"]:
        current = {"text": run, "value": run} if variable["name"] == "run" else variable["current"]
        variable |= {"query": "", "current": current, "options": [current], "refresh": 0}
    # a row that is closed holds its panels
    drawn = [panel for row in model["panels"] for panel in (row, *row.get("panels", ())) if panel["type"] != "row"]
    query = {"refId": "A", "datasource": EMBEDDED, "queryType": "snapshot"}
    for panel, target in zip((panel for row in dashboard.rows for panel in row.panels), drawn, strict=True):
        target["datasource"] = EMBEDDED
        target["targets"] = [{**query, "snapshot": frames(panel, answers[panel.key])}]
    return model


def frames(panel: Panel, answers: Sequence[PanelSeries]) -> list[Json]:
    """Return the data frames that a panel's queries return, before its transformations."""
    if panel.kind == "heatmap":
        return _heatmap_frame(answers)
    if panel.kind == "table":
        return _table_frames(panel, answers)
    return [
        _frame(
            _letter(panel.lines.index(answer.line)),
            [
                _times(_milliseconds(answer)),
                (
                    {
                        "name": "Value",
                        "type": "number",
                        "labels": dict(answer.labels),
                        "config": {"displayNameFromDS": answer.legend},
                    },
                    answer.values.tolist(),
                ),
            ],
        )
        for answer in answers
    ]


def _table_frames(panel: Panel, answers: Sequence[PanelSeries]) -> list[Json]:
    """Return a frame for each query with its labels and its value, named as the panel's columns expect."""
    found = []
    for line in panel.lines:
        rows = [answer for answer in answers if answer.line is line]
        ref_id = _letter(panel.lines.index(line))
        names = sorted({name for row in rows for name in row.labels})
        columns = [_times([time for row in rows for time in _milliseconds(row)])]
        columns += [({"name": name, "type": "string"}, [row.labels.get(name, "") for row in rows]) for name in names]
        columns.append(({"name": f"Value #{ref_id}", "type": "number"}, [row.last for row in rows]))
        if rows:
            found.append(_frame(ref_id, columns))
    return found


def _heatmap_frame(answers: Sequence[PanelSeries]) -> list[Json]:
    """Return a heatmap's frame with a field for the count of each bucket alone."""
    if not answers:
        return []
    bounds, counts = by_bucket(answers)
    columns = [_times(_milliseconds(answers[0]))]
    columns += [({"name": bound, "type": "number"}, row.tolist()) for bound, row in zip(bounds, counts, strict=True)]
    return [_frame("A", columns, {"type": "heatmap-rows"})]


def _frame(ref_id: str, columns: Sequence[Column], meta: Json | None = None) -> Json:
    """Return Grafana's JSON of a data frame; JSON has no NaN, so it becomes a null with its index in `entities`."""
    schema = {"refId": ref_id, "fields": [field for field, _ in columns]} | ({"meta": meta} if meta else {})
    values, entities = [], []
    for _, column in columns:
        numbers = [(place, value) for place, value in enumerate(column) if isinstance(value, float)]
        odd = {name: [at for at, value in numbers if is_it(value)] for name, is_it in NOT_FINITE.items()}
        holes = {place for places in odd.values() for place in places}
        values.append([None if place in holes else value for place, value in enumerate(column)])
        entities.append({name: places for name, places in odd.items() if places} or None)
    data: Json = {"values": values} | ({"entities": entities} if any(entities) else {})
    return {"schema": schema, "data": data}


def _times(milliseconds: list[Any]) -> Column:
    return {"name": "Time", "type": "time"}, milliseconds


def _milliseconds(answer: PanelSeries) -> list[int]:
    return [round(time * 1000) for time in answer.times.tolist()]


def _letter(place: int) -> str:
    return chr(ord("A") + place)
