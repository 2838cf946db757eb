"""A panel of the catalogue as Grafana's panel."""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import TYPE_CHECKING, TypeAlias

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from workload.dashboards.description import describe
from workload.panels.colours import ARM_COLOURS, COLOURS, NODE_COLOURS
from workload.panels.gpu_memory import THIS_GPU
from workload.promql.query import RANGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.panels.panel import Kind, Line, Panel, Unit

Builder: TypeAlias = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel | heatmap.Panel | statetimeline.Panel
BUILDERS: dict[Kind, type[Builder]] = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "bargauge": bargauge.Panel,
    "table": table.Panel,
    "heatmap": heatmap.Panel,
    "state-timeline": statetimeline.Panel,
}
FORMATS = {"table": PromQueryFormat.TABLE, "heatmap": PromQueryFormat.HEATMAP}
DATASOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
# A label that looks like a number is given the unit of its column, or else of its table.
TEXT = "string"
SCRAPE_INTERVAL = "1s"
COUNTED = {"reqps", "eps", "tokens/s", "short"}
# Less than Grafana's 150, so that eleven columns fit; at 75 the words of an empty cell did not.
COLUMN_PIXELS = 100
# What is scraped more often than the datasource's interval says; and means and quantiles over a minute, of which a
# point every five seconds shows all there is, at a fifth of the cost.
MIN_INTERVALS = {'-timeline"': "10ms", '-fast"': "100ms", "[1m]": "5s", "rate1m": "5s"}
FINEST_FIRST = ("10ms", "100ms", "", "5s")
# Nothing known is neither good nor bad, and a value below the first threshold needs no colour.
NEUTRAL_COLOUR = "text"
BY_ARM = re.compile(r"\bby \([^)]*\barm\b")
BY_GPU = re.compile(r"\bby \([^)]*\bgpu\b")
# The agent's histograms of time carry the ids of traces on their buckets.
TRACED = re.compile(r"\bhop2rag_(?!exporter_)\w+_seconds_bucket\b")
SECOND_QUANTITY = "(P95|decode|waiting|from cache|bound|mean in flight|total|failed calls)$"
SECOND_ARM = "^(prefix-on|high) "
# With more lines to an arm its colour alone would not tell them apart.
MAX_LINES_OF_AN_ARM = 2
HOPS = tuple(f"hop {number}" for number in range(1, 5))
TO_ARM = "To the run of this arm"
OVERVIEW = "/d/hop2rag-overview?${__url_time_range}"
# The run that is chosen is the arm's; a table of several runs has its own.
CHOSEN = "${run:queryparam}&${experiment:queryparam}"
OF_ROW = "var-run=${__data.fields.run}&var-experiment=${__data.fields.experiment}"


def build(panel: Panel, panel_id: int, position: models.GridPos) -> Builder:
    """Return a panel at a position of the grid, with an id that is unique within its dashboard."""
    builder = BUILDERS[panel.kind]()
    builder.id(panel_id).title(panel.title).description(describe(panel)).datasource(DATASOURCE).grid_pos(position)
    builder.unit(TEXT if panel.kind == "table" else unit(panel.unit)).no_value(panel.empty).thresholds(
        _thresholds(panel)
    )
    if interval := min_interval(panel):
        builder.interval(interval)
    if panel.links:
        builder.links(
            [sdk.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url) for url, title in panel.links]
        )
    if panel.repeat:
        builder.repeat(panel.repeat)
    if links := tuple(_data_links(panel)):
        builder.data_links([*links])
    if panel.decimals is not None:
        builder.decimals(panel.decimals)
    if panel.words and panel.kind != "table":
        builder.mappings([_words(panel)])
    for ref_id, line in zip(ascii_uppercase, panel.lines, strict=False):
        builder.with_target(_target(panel, line, ref_id))
    return _styled(builder, panel)


def _data_links(panel: Panel) -> Iterator[sdk.DashboardLink]:
    """Yield where a click on a value leads: to the GPU that it is of, and to the table with its arm's run."""
    if any(BY_GPU.search(line.query.expression) for line in panel.lines):
        yield sdk.DashboardLink("To the health of this GPU").url(THIS_GPU)
    if panel.kind != "table" and any(BY_ARM.search(line.query.expression) for line in panel.lines):
        yield sdk.DashboardLink(TO_ARM).url(f"{OVERVIEW}&{CHOSEN}&var-arm=${{__field.labels.arm}}")


def unit(name: Unit) -> str:
    """Return Grafana's name of a unit; it knows no tokens."""
    return "count:tok/s" if name == "tokens/s" else name


def min_interval(panel: Panel) -> str:
    """Return the finest step that makes sense for a panel, or "" for the datasource's scrape interval."""
    return panel.step or min((_interval(line) for line in panel.lines), key=FINEST_FIRST.index)


def _interval(line: Line) -> str:
    return next((interval for part, interval in MIN_INTERVALS.items() if part in line.query.expression), "")


def line_interval(panel: Panel, line: Line) -> str:
    """Return the finest step of one line, which decides the windows of its rates.

    Next to a line of a fast job one of an ordinary job says its own interval: the panel's would empty its windows.
    """
    return panel.step or _interval(line) or (SCRAPE_INTERVAL if min_interval(panel) else "")


def legend(panel: Panel, line: Line) -> str:
    """Return the legend of a line: its arm, where its query keeps it, and what tells it from other lines."""
    arm = "{{arm}}" if panel.kind != "heatmap" and BY_ARM.search(line.query.expression) else ""
    return f"{arm} {line.legend}".strip()


def _target(panel: Panel, line: Line, ref_id: str) -> prometheus.Dataquery:
    # a single value is of now, or of all that is shown: the last of a range would stay after its source is dead
    is_instant = RANGE in line.query.expression or panel.kind == "stat"
    target = prometheus.Dataquery().expr(line.query.grafana()).ref_id(ref_id).datasource(DATASOURCE)
    target.format(FORMATS.get(panel.kind, PromQueryFormat.TIME_SERIES))
    if panel.kind != "table":
        target.legend_format(legend(panel, line))
    if interval := line_interval(panel, line):
        target.interval(interval)
    if not is_instant and TRACED.search(line.query.expression):
        target.exemplar(True)
    return target.instant() if is_instant else target.range()


def _thresholds(panel: Panel) -> sdk.ThresholdsConfig:
    steps = [
        models.Threshold(None, NEUTRAL_COLOUR),
        *(models.Threshold(value, colour) for value, colour in panel.thresholds),
    ]
    return sdk.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _words(panel: Panel) -> models.ValueMap:
    colours = {
        0.0: "transparent" if panel.kind == "state-timeline" and not panel.words[0][1] else "orange",
        1.0: "green",
    }
    return models.ValueMap(
        {
            f"{value:g}": models.ValueMappingResult(text=text, color=colours.get(value), index=index)
            for index, (value, text) in enumerate(panel.words)
        }
    )


def _styled(builder: Builder, panel: Panel) -> Builder:
    """Set what only one kind of panel has."""
    last = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    match builder:
        case timeseries.Panel():
            # the means of parts add up, their maxima do not
            calculations = ["mean"] if panel.is_stacked else ["max", "mean"]
            builder.legend(_legend_below().calcs(calculations)).tooltip(_all_lines()).line_width(1).axis_soft_min(0)
            _colour(builder, panel)
            if panel.thresholds:
                dashed = options.GraphThresholdsStyleMode.DASHED
                builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(dashed))
            if panel.unit in COUNTED:
                builder.axis_soft_max(1)  # Grafana draws what is always 0 on an axis up to 100
            builder.show_points(options.VisibilityMode.AUTO).fill_opacity(30 if panel.is_stacked else 0)
            if panel.is_stacked:
                # shares of several agents add up to more than 1, and their parts stay what they are
                mode = options.StackingMode.PERCENT if panel.unit == "percentunit" else options.StackingMode.NORMAL
                builder.stacking(common.StackingConfig().mode(mode).group("A"))
        case stat.Panel():
            builder.reduce_options(last).graph_mode(options.BigValueGraphMode.NONE)
            builder.text_mode(options.BigValueTextMode.AUTO)
            builder.color_mode(options.BigValueColorMode.VALUE)
        case bargauge.Panel():
            builder.reduce_options(last).display_mode(options.BarGaugeDisplayMode.BASIC).min(0)
            builder.orientation(options.VizOrientation.HORIZONTAL).name_placement(options.BarGaugeNamePlacement.LEFT)
            builder.text(common.VizTextDisplayOptions().title_size(12).value_size(14))
            _colour(builder, panel)
        case table.Panel():
            _lay_out_columns(builder, panel)
        case heatmap.Panel():
            builder.calculate(False).color(
                heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
            )
            builder.y_axis(heatmap.YAxisConfig().unit(unit(panel.unit)))
        case statetimeline.Panel():
            builder.show_value(options.VisibilityMode.NEVER if not panel.words[0][1] else options.VisibilityMode.AUTO)
            builder.merge_values(True).row_height(0.9).legend(_legend_below())
    return builder


def _colour(builder: timeseries.Panel | bargauge.Panel, panel: Panel) -> None:
    """Give each arm, or each part where an arm has many, its colour of the figures; the second of a pair has dashes."""
    builder.color_scheme(sdk.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    parts = _parts(panel) if isinstance(builder, timeseries.Panel) else {}
    colours = {rf"/(^| ){part}$/": colour for part, colour in parts.items()}
    if not parts and any(BY_ARM.search(line.query.expression) for line in panel.lines):
        colours = {rf"/^{arm}( |$)/": colour for arm, colour in ARM_COLOURS.items()}
    for pattern, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        builder.override_by_regexp(pattern, [models.DynamicConfigValue("color", fixed)])
    dashed = SECOND_ARM if parts else SECOND_QUANTITY
    is_pair = not panel.is_stacked if parts else any(re.search(dashed, line.legend) for line in panel.lines)
    if isinstance(builder, timeseries.Panel) and is_pair:
        dashes = {"fill": "dash", "dash": [8, 6]}
        builder.override_by_regexp(f"/{dashed}/", [models.DynamicConfigValue("custom.lineStyle", dashes)])


def _parts(panel: Panel) -> dict[str, str]:
    """Return the colours of an arm's lines if there are many: those of nodes, or by their order."""
    legends = [line.legend for line in panel.lines]
    if "{{node}}" in legends:
        return NODE_COLOURS
    names = HOPS if "hop {{hop}}" in legends else legends
    by_order = dict(zip(names, COLOURS, strict=False)) if len(names) > MAX_LINES_OF_AN_ARM else {}
    return {name: NODE_COLOURS.get(name, colour) for name, colour in by_order.items()}


def _legend_below() -> common.VizLegendOptions:
    return common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM)


def _all_lines() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)


def _lay_out_columns(builder: table.Panel, panel: Panel) -> None:
    """Join the instant answers of all lines into one row for each set of labels, a column for each line."""
    columns = dict(zip(ascii_uppercase, panel.lines, strict=False))
    hidden = {"Time": True} | {f"Value #{ref_id}": True for ref_id, line in columns.items() if not line.legend}
    names = {f"Value #{ref_id}": line.legend for ref_id, line in columns.items() if line.legend}
    builder.min_width(COLUMN_PIXELS).with_transformation(models.DataTransformerConfig("merge", options={}))
    builder.with_transformation(
        models.DataTransformerConfig(
            "organize", options={"excludeByName": hidden, "renameByName": names, "indexByName": {}}
        )
    )
    for line in columns.values():
        if line.legend:
            builder.override_by_name(line.legend, _column(panel, line))
    if all(BY_ARM.search(line.query.expression) for line in panel.lines):
        has_run = all("by (run, experiment, arm" in line.query.expression for line in panel.lines)
        url = f"{OVERVIEW}&{OF_ROW if has_run else CHOSEN}&var-arm=${{__data.fields.arm}}"
        builder.override_by_name("arm", [models.DynamicConfigValue("links", [{"title": TO_ARM, "url": url}])])


def _column(panel: Panel, line: Line) -> list[models.DynamicConfigValue]:
    """Return a column's unit and, where it holds no quantity, its words."""
    settings = [models.DynamicConfigValue("unit", unit(line.unit or panel.unit))]
    if (line.unit or panel.unit) == "percentunit":
        settings.append(models.DynamicConfigValue("decimals", 1))
    if line.unit == "none" and panel.words:
        settings.append(models.DynamicConfigValue("mappings", [_words(panel)]))
    return settings
