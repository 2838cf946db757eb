"""Panels drawn here say what Grafana's would: their words, their units, their origin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from matplotlib.text import Text

from tests.stubs.panels import ARMS, BARS, HEAT, KINDS, LINES, SILENT, SPAN, STAT, STATES, TABLE, KnownSeries
from workload.dashboards.catalogue import DASHBOARDS
from workload.export.panel_series import query_panel
from workload.export.picture import KINDS as DRAWN
from workload.export.picture import Shown, draw, sketch
from workload.export.values import text_of
from workload.panels.colours import ARM_COLOURS, COLOURS
from workload.services.grafana import png_size

if TYPE_CHECKING:
    from pathlib import Path

    from workload.panels.panel import Panel, Unit


SHOWN = Shown(SPAN, ARMS, "run r1; a stub, no engine")


def words(panel: Panel) -> list[str]:
    """Return all texts of a panel's picture."""
    answers = query_panel(panel, KnownSeries(), {"run": "r1"}, SPAN)
    canvas = sketch(panel, answers, SHOWN)
    canvas.draw_without_rendering()
    cells = [cell.get_text() for axes in canvas.axes for table in axes.tables for cell in table.get_celld().values()]
    return [found.get_text() for found in [*canvas.findobj(Text), *cells] if found.get_text()]


@pytest.mark.parametrize("panel", KINDS, ids=lambda panel: panel.kind)
def test_every_picture_says_what_it_is_and_where_from(panel: Panel) -> None:
    """A picture is copied without its page."""
    found = words(panel)
    assert panel.title in found
    assert "run r1; a stub, no engine" in found


@pytest.mark.parametrize(
    ("panel", "wanted"),
    [
        (LINES, {"prefix-off decide", "prefix-on decide", "seconds since 2023-11-14 22:13:20 UTC"}),
        (STAT, {"caching off", "caching on", "prefix-on"}),
        (BARS, {"decide", "1.5 s", "retrieve", "250 ms"}),
        (TABLE, {"arm", "calls", "12", "one call", "125 ms"}),
        (HEAT, {"500 ms", "1 s", "more", "up to"}),
        (STATES, {"decide", "up", "down"}),
        (SILENT, {"no GPU"}),
    ],
    ids=lambda value: value.key if hasattr(value, "key") else "",
)
def test_values_are_reported_in_words_and_units(panel: Panel, wanted: set[str]) -> None:
    """A bare 0 for "caching off", or 0.25 for 250 ms, is read as something else."""
    assert wanted <= set(words(panel))


def test_a_picture_is_a_file(tmp_path: Path) -> None:
    """The one test that goes through matplotlib's renderer."""
    path = draw(LINES, query_panel(LINES, KnownSeries(), {"run": "r1"}, SPAN), SHOWN, tmp_path / "a.png")
    assert png_size(path.read_bytes()) is not None


def test_every_kind_can_be_drawn() -> None:
    """A new kind of panel must not be left out of an export."""
    assert {panel.kind for each in DASHBOARDS for row in each.rows for panel in row.panels} <= DRAWN.keys()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.5, "percentunit", "50.0 %"),
        (3 * 2**30, "bytes", "3 GiB"),
        (0.0, "s", "0 s"),
        (1234567.0, "short", "1,234,567"),
        (12.345, "tokens/s", "12.3 tokens/s"),
        (1.0, "none", "1"),
        (float("nan"), "short", ""),
    ],
)
def test_units(value: float, unit: Unit, text: str) -> None:
    """Three digits are what a reader can use; all of a count are its meaning."""
    assert text_of(value, unit, ()) == text


def test_a_table_joins_what_belongs_to_one_row() -> None:
    """The version is known with a label more than the rest: without joining, each arm would have two half rows."""
    narrow, wide = query_panel(TABLE, KnownSeries(), {"run": "r1"}, SPAN)[-2:]
    wide = replace(wide, labels={"arm": "prefix-on", "version": "0.32.0"})
    canvas = sketch(TABLE, [narrow, wide], SHOWN)
    (table,) = canvas.axes[0].tables
    rows = [table[1, column].get_text().get_text() for column in range(4)]
    assert rows == ["prefix-on", "0.32.0", "12", "125 ms"]


def test_an_arm_has_its_colour_even_alone() -> None:
    """With caching off there is no line: the other arm's must not take its colour."""
    alone = [answer for answer in query_panel(STAT, KnownSeries(), {}, SPAN) if answer.labels["arm"] == "prefix-on"]
    canvas = sketch(replace(STAT, kind="timeseries"), alone, SHOWN)
    assert canvas.axes[0].lines[0].get_color() == COLOURS[1]
    high = [replace(answer, labels={"arm": "high"}) for answer in alone]
    canvas = sketch(replace(STAT, kind="timeseries"), high, replace(SHOWN, arms=("high", "low")))
    assert canvas.axes[0].lines[0].get_color() == ARM_COLOURS["high"]


@pytest.mark.parametrize("is_stacked", [False, True])
def test_a_name_that_begins_with_an_underscore_is_explained(*, is_stacked: bool) -> None:
    """Matplotlib leaves such labels out of its legends: a line would have no name."""
    panel = replace(LINES, is_stacked=is_stacked)
    answers = [replace(answer, legend="_mine") for answer in query_panel(panel, KnownSeries(), {}, SPAN)]
    legend = sketch(panel, answers, SHOWN).axes[0].get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == ["_mine"]


def test_bytes_have_round_ticks() -> None:
    """Ticks at 953 MiB are round in bytes, and in nothing that a reader counts in."""
    panel = replace(LINES, unit="bytes")
    answers = [replace(answer, values=answer.values * 2**28) for answer in query_panel(LINES, KnownSeries(), {}, SPAN)]
    canvas = sketch(panel, answers, SHOWN)
    canvas.draw_without_rendering()
    ticks = {label.get_text() for label in canvas.axes[0].get_yticklabels()}
    assert {"0 B", "512 MiB", "1 GiB", "1.5 GiB"} <= ticks
