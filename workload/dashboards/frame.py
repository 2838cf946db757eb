"""What surrounds the panels on every dashboard: variables, annotations, links, and the grid they stand in."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import DataSourceRef

from workload.dashboards.panel_model import DATASOURCE, build
from workload.promql.annotations import (
    ACTION_TAG,
    ALERTS,
    ALL_RUNS,
    ALL_RUNS_TEXT,
    ARM_SPANS,
    ARMS,
    DEFAULT_BASELINE,
    EXPERIMENTS,
    GPUS,
    INSTANCES,
    JOBS,
    MODELS,
    RUN_AND_TEXT,
    RUNS,
    TAG,
    WINDOW_TAG,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.dashboards.catalogue import Dashboard, Row
    from workload.panels.panel import Panel

DATASOURCE_NAME, DATASOURCE_UID = "Hop2Rag Prometheus", "hop2rag-prometheus"
GRAFANA = DataSourceRef(type_val="grafana", uid="-- Grafana --")
GRID_COLUMNS, HEADING_HEIGHT = 24, 1
# `.+` never matches what lacks the label: a server that its user has added has no run, experiment or arm.
ALL_VALUE = ".*"
# One of these each, so that no series is counted once per job.
NOT_FAST = "/^(?!.*-fast$).*$/"
CHOICES = (("job", "Engine's job", JOBS, NOT_FAST, "vllm"), ("baseline", "Baseline", ARMS, "", DEFAULT_BASELINE))
VARIABLES = (
    ("experiment", "Experiment", EXPERIMENTS),
    ("arm", "Arm", ARMS),
    ("model_name", "Model", MODELS),
    ("instance", "Engine", INSTANCES),
    ("gpu", "GPU", GPUS),
)
# What the SDK adds unasked: a menu where nobody sees links and annotations, and what Grafana 12 does not know.
MENU = ("placement", "inControlsMenu")
SURPLUS = ("footer", "auto", "auto_count", "auto_min")


def render(dashboard: Dashboard) -> str:
    """Return a dashboard as the JSON that Grafana provisions."""
    encoded = JSONEncoder().encode(_build(dashboard).build())
    return json.dumps(json.loads(encoded, object_hook=_without_surplus), indent=2, sort_keys=True) + "\n"


def _without_surplus(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in SURPLUS and (name, value) != MENU}


def _build(dashboard: Dashboard) -> sdk.Dashboard:
    builder = sdk.Dashboard(dashboard.title).uid(dashboard.uid).description(dashboard.description)
    builder.tags([TAG, dashboard.name]).readonly().timezone("browser").time("now-15m", "now").refresh("10s")
    builder.tooltip(models.DashboardCursorSync.CROSSHAIR)
    builder.link(
        sdk.DashboardLink("Hop2Rag")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    builder.with_variable(
        sdk.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        .current(_current(DATASOURCE_NAME, DATASOURCE_UID))
    )
    builder.with_variable(_of_run(dashboard))
    for name, label, query in VARIABLES:
        builder.with_variable(_variable(name, label, query))
    for name, label, query, pattern, value in CHOICES:
        choice = (
            sdk.QueryVariable(name).label(label).datasource(DATASOURCE).query(query).current(_current(value, value))
        )
        builder.with_variable(choice.regex(pattern).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED))
    builder.annotation(_marks("Arms", "blue", ARM_SPANS.grafana(), "{{experiment}}: {{arm}}", "run"))
    builder.annotation(_marks("Alerts", "red", ALERTS, "{{alertname}}", "severity,instance"))
    builder.annotation(_tagged("Run windows", "green", WINDOW_TAG))
    builder.annotation(_tagged("Actions on alerts", "purple", ACTION_TAG))
    ids, top = count(1), 0
    for row in dashboard.rows:
        top = _add(builder, row, ids, top)
    return builder


def places(row: Row) -> list[tuple[Panel, int, int, int]]:
    """Return the row's panels, each with its line, its left column and its width in columns.

    A table is as wide as the page: at 800 pixels half of it shows two columns.
    """
    found, line, left = [], 0, 0
    for panel in row.panels:
        width = GRID_COLUMNS if panel.kind == "table" else row.width
        if left + width > GRID_COLUMNS:
            left, line = 0, line + 1
        found.append((panel, line, left, width))
        left += width
    return found


def _add(builder: sdk.Dashboard, row: Row, ids: Iterator[int], top: int) -> int:
    """Add a row's heading and panels from `top` on; return where the next row starts."""
    at = models.GridPos(h=HEADING_HEIGHT, w=GRID_COLUMNS, x=0, y=top)
    heading = sdk.Row(row.title).id(next(ids)).grid_pos(at).collapsed(not row.is_open)
    top += HEADING_HEIGHT
    panels = [
        build(panel, next(ids), models.GridPos(h=row.height, w=width, x=left, y=top + line * row.height))
        for panel, line, left, width in places(row)
    ]
    below = top + row.height * places(row)[-1][1]
    if not row.is_open:
        # Grafana keeps the panels of a closed row within it, and no room for them
        for built in panels:
            heading.with_panel(built)
        builder.with_row(heading)
        return top
    builder.with_row(heading)
    for built in panels:
        builder.with_panel(built)
    return below + row.height


def _of_run(dashboard: Dashboard) -> sdk.QueryVariable:
    """Return the choice of one run, or of all.

    Totals of two runs are of neither, so the newest is chosen. Grafana takes the first of the values where none is
    saved, but not where it offers its own All, which therefore is one of the values here. Monitoring is watched as a
    whole.
    """
    variable = sdk.QueryVariable("run").label("Run").datasource(DATASOURCE).query(RUNS).regex(RUN_AND_TEXT)
    variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_DESC)
    return variable.current(_current(ALL_RUNS_TEXT, ALL_RUNS)) if dashboard.watches_all_runs else variable


def _variable(name: str, label: str, query: str) -> sdk.QueryVariable:
    return (
        sdk.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(ALL_VALUE)
        .current(_current("All", "$__all"))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _current(text: str, value: str) -> models.VariableOption:
    return models.VariableOption(text=text, value=value)


def _marks(name: str, colour: str, expression: str, title: str, tags: str) -> sdk.AnnotationQuery:
    target = prometheus.Dataquery().expr(expression).ref_id("A").interval("1s").range()
    annotation = sdk.AnnotationQuery().name(name).icon_color(colour).datasource(DATASOURCE).target(target)
    return annotation.title_format(title).tag_keys(tags)


def _tagged(name: str, colour: str, tag: str) -> sdk.AnnotationQuery:
    tagged: Any = sdk.AnnotationTarget().type("tags").tags([tag]).match_any(False).limit(100)
    # Grafana's own annotations are asked for by tag, which the SDK's type of a target leaves out
    return sdk.AnnotationQuery().name(name).icon_color(colour).datasource(GRAFANA).target(tagged)
