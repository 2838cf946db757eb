"""Draws a dashboard as one picture, in the grid in which Grafana opens it, for where there is no Grafana."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from workload.charts.time_series import write_footer
from workload.dashboards.frame import GRID_COLUMNS, places
from workload.export.picture import draw_panel, height_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workload.dashboards.catalogue import Dashboard, Row
    from workload.export.panel_series import PanelSeries
    from workload.export.picture import Shown
    from workload.panels.panel import Panel

WIDTH_INCHES = 16.0
# Of a row's heading, and of title and footer.
HEADING_INCHES, FRAME_INCHES = 0.35, 0.9


def sketch_dashboard(dashboard: Dashboard, answers: Mapping[str, Sequence[PanelSeries]], shown: Shown) -> Figure:
    """Return the picture of a dashboard's open rows; `answers` has the series of each panel by its key."""
    lines = [line for row in dashboard.rows if row.is_open for line in _lines_of(row)]
    heights = [
        max(height_of(panel, answers[panel.key]) for panel, _ in panels) + HEADING_INCHES * bool(heading)
        for heading, panels in lines
    ]
    canvas = Figure(figsize=(WIDTH_INCHES, sum(heights) + FRAME_INCHES), layout="constrained")
    canvas.suptitle(dashboard.title, x=0.01, ha="left", fontsize=16, fontweight="bold")
    write_footer(canvas, shown.footer)
    strips = canvas.subfigures(len(lines), 1, height_ratios=heights, squeeze=False)[:, 0]
    for strip, (heading, panels) in zip(strips, lines, strict=True):
        strip.suptitle(heading, x=0.01, ha="left", fontsize=12, fontweight="bold", color="#555555")
        cells = strip.subfigures(1, GRID_COLUMNS // panels[0][1], squeeze=False)[0]
        for cell, (panel, _) in zip(cells, panels, strict=False):
            axes = cell.subplots()
            axes.set_title(panel.title, loc="left", fontsize=10)
            draw_panel(axes, panel, answers[panel.key], shown)
    return canvas


def _lines_of(row: Row) -> Iterator[tuple[str, list[tuple[Panel, int]]]]:
    """Yield the lines of a row, the first with its heading: panels, and the width of each in columns."""
    for number, line in groupby(places(row), key=lambda place: place[1]):
        yield "" if number else row.title, [(panel, width) for panel, _, _, width in line]
