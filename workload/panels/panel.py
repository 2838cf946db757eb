"""A panel is a question with queries; a figure is panels that share a time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from workload.promql.query import Query

# Grafana's unit names; figures translate them to axis labels.
Unit = Literal["percentunit", "short", "s", "bytes", "reqps", "tokens/s"]


@dataclass(frozen=True)
class Line:
    """One query of a panel; `legend` tells it from the panel's other lines and is empty if there is but one."""

    query: Query
    legend: str = ""


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
    """

    key: str
    title: str
    why: str
    unit: Unit
    lines: tuple[Line, ...]
    empty: str = "no data"


@dataclass(frozen=True)
class Figure:
    """A picture under the plan's file name."""

    file: str
    title: str
    panels: tuple[Panel, ...]
