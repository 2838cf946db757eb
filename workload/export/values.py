"""Formats a panel's values in the unit that Grafana shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, MultipleLocator

from workload.analysis.wording import number, size
from workload.charts.canvas import duration
from workload.charts.time_series import AXIS_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axis import Axis

    from workload.panels.panel import Unit

# The most ticks on an axis of bytes, which are powers of two: round numbers of MiB are not round numbers of bytes.
TICKS = 6
SUFFIXES: dict[Unit, str] = {
    "reqps": " /s",
    "eps": " /s",
    "tokens/s": " tokens/s",
    "hertz": " Hz",
    "celsius": " \u00b0C",
    "watt": " W",
}


def text_of(value: float, unit: Unit, words: Sequence[tuple[float, str]]) -> str:
    """Return a value as text: the word for it if there is one, else three significant digits and the unit."""
    if math.isnan(value):
        return ""
    if word := dict(words).get(value):
        return word
    if unit == "percentunit":
        return f"{value:.1%}".replace("%", " %")
    if unit == "bytes":
        return size(value)
    if unit == "s":
        return duration(value) if value else "0 s"
    return f"{number(value)}{SUFFIXES.get(unit, '')}"


def axis(drawn: Axis, unit: Unit) -> None:
    """Show the values of an axis in a unit; call this once the axis has its range."""
    if unit == "bytes" and (top := float(drawn.get_view_interval()[1])) >= TICKS:
        drawn.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(top / TICKS))))
    if unit in {"percentunit", "bytes"}:
        drawn.set_major_formatter(FuncFormatter(lambda value, _: text_of(value, unit, ()).replace(".0 %", " %")))
    drawn.set_label_text(AXIS_LABELS[unit] if unit != "percentunit" else "")
