"""A panel is a question with queries; a figure is panels that share a time axis."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.promql.query import Query

# Grafana's unit names, but for tokens/s, which it does not know; figures translate them to axis labels.
Unit = Literal["percentunit", "short", "s", "bytes", "reqps", "eps", "tokens/s", "hertz", "celsius", "watt", "none"]
# For what is counted when a call or a question ends, which an agent does every few seconds.
SPARSE = "5s"
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
Kind = Literal["timeseries", "stat", "bargauge", "table", "heatmap", "state-timeline"]


@dataclass(frozen=True)
class Line:
    """One query of a panel.

    Attributes:
        query: what is asked.
        legend: tells the line from the panel's other lines; empty if there is but one. `{{node}}` is the label's
            value. In a table it is the title of the column; without one the query adds its labels only.
        unit: unit of a table's column where it is not the panel's.
    """

    query: Query
    legend: str = ""

    def named(self, labels: Mapping[str, str]) -> str:
        """Return the legend of a series with these labels."""
        return PLACEHOLDER.sub(lambda found: labels.get(found[1], ""), self.legend)

    def has(self, legend: str) -> bool:
        """Return whether a legend can be of a series of this line."""
        parts = (re.escape(part) for part in PLACEHOLDER.split(self.legend)[::2])
        return re.fullmatch(".*".join(parts), legend) is not None

    unit: Unit | None = None


@dataclass(frozen=True)
class Panel:
    """A panel.

    Attributes:
        key: unique within its dashboard; names the panel's CSV.
        title: the question it answers, or the answer.
        why: what a reader should look for, with the metrics it is made of.
        unit: unit of the values.
        lines: what is drawn.
        empty: what an arm without any data means, in words.
        kind: how a dashboard draws it; figures draw time series.
        words: what single values mean, in words.
        thresholds: from which value on a single value has which colour; in a time series, dashed lines.
        is_stacked: whether the lines are parts of a whole.
        decimals: digits after the point, where neighbouring values would else be written alike.
        step: the finest step that shows more, as Grafana writes it, where that is coarser than the samples are.
        links: where its reader goes on: an address in Grafana or elsewhere, and what is there.
        is_gauge: whether a value holds for its whole step: figures draw steps.
        is_total: whether a value counts from a server's start: figures count from each window's first value.
        repeat: the variable of which a dashboard draws one panel per value.
    """

    key: str
    title: str
    why: str
    unit: Unit
    lines: tuple[Line, ...]
    _: KW_ONLY
    empty: str = "no data"
    kind: Kind = "timeseries"
    words: tuple[tuple[float, str], ...] = ()
    thresholds: tuple[tuple[float, str], ...] = ()
    is_stacked: bool = False
    decimals: int | None = None
    step: str = ""
    links: tuple[tuple[str, str], ...] = ()
    is_gauge: bool = False
    is_total: bool = False
    repeat: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture under the file name that users know."""

    file: str
    title: str
    panels: tuple[Panel, ...]
