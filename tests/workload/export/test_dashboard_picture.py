"""A dashboard as one picture: what opens first, in its order, with its words and its origin."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.text import Text

from tests.stubs.panels import ARMS, DASHBOARD, SPAN, KnownSeries
from workload.dashboards.catalogue import Row
from workload.export.dashboard_picture import sketch_dashboard
from workload.export.panel_series import query_panel
from workload.export.picture import Shown


def test_it_has_the_panels_of_the_open_rows_and_says_where_they_are_from() -> None:
    """What is closed would be asked for by nobody, and a picture is copied without its page."""
    shown = DASHBOARD.rows[0]
    closed = Row("A closed row", shown.panels[:1], is_open=False)
    answers = {panel.key: query_panel(panel, KnownSeries(), {"run": "r1"}, SPAN) for panel in shown.panels}
    canvas = sketch_dashboard(replace(DASHBOARD, rows=(shown, closed)), answers, Shown(SPAN, ARMS, "run r1; a stub"))
    canvas.draw_without_rendering()
    found = [text.get_text() for text in canvas.findobj(Text)]
    titles = [panel.title for panel in shown.panels]
    assert [text for text in found if text in titles] == titles
    assert {DASHBOARD.title, shown.title, "run r1; a stub"} <= set(found)
    assert "A closed row" not in found
