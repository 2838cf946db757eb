"""Draws a dashboard's panel with matplotlib if Grafana cannot: every kind of panel, in one style."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from workload.charts.canvas import GREY, save, sheet
from workload.charts.time_series import DASHES
from workload.export.panel_series import PanelSeries, TimeRange, by_bucket
from workload.export.values import axis, text_of
from workload.panels.colours import ARM_COLOURS, COLOURS, NODE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workload.panels.panel import Kind, Panel

# The height of a picture, and of one row in a picture with a row per series.
HEIGHT_INCHES, ROW_INCHES = 3.2, 0.28
MAX_ROWS, HEAD_CHARS = 40, 14
FAILED, FINE = COLOURS[4], COLOURS[2]
# Up to this many lines differ by dashes, so that colour can show the arm.
DASHED = len(DASHES)


@dataclass(frozen=True)
class Shown:
    """What all pictures of a dashboard share: the time range, the arms in order of colour, the origin of the data."""

    span: TimeRange
    arms: Sequence[str]
    footer: str


def draw(panel: Panel, answers: Sequence[PanelSeries], shown: Shown, path: Path) -> Path:
    """Draw a panel to a PNG file and return its path; a picture without data shows the panel's text for that."""
    return save(sketch(panel, answers, shown), path)


def sketch(panel: Panel, answers: Sequence[PanelSeries], shown: Shown) -> Figure:
    """Return the picture of a panel."""
    canvas, (axes,) = sheet(panel.title, shown.footer, [height_of(panel, answers)])
    draw_panel(axes, panel, answers, shown)
    return canvas


def height_of(panel: Panel, answers: Sequence[PanelSeries]) -> float:
    """Return the height in inches that a panel needs."""
    is_wide = panel.kind in {"timeseries", "heatmap"} and has_data(answers)
    return max(HEIGHT_INCHES if is_wide else 1.0, 0.5 + ROW_INCHES * len(_rows(panel, answers)))


def has_data(answers: Sequence[PanelSeries]) -> bool:
    """Return whether a panel has any number."""
    return any(not np.isnan(answer.last) for answer in answers)


def draw_panel(axes: Axes, panel: Panel, answers: Sequence[PanelSeries], shown: Shown) -> None:
    """Draw a panel, or its text for no data."""
    if has_data(answers):
        KINDS[panel.kind](axes, panel, answers, shown)
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, panel.empty, transform=axes.transAxes, ha="center", va="center", fontsize=14, color=GREY)


def _rows(panel: Panel, answers: Sequence[PanelSeries]) -> list[str]:
    """Return the entries that get a row of their own, at most `MAX_ROWS`."""
    if panel.kind == "table":
        return ["head", *(str(labels) for labels, _ in _merged(panel, answers))]
    return list(dict.fromkeys(answer.legend for answer in answers))[:MAX_ROWS] if panel.kind in BY_ROW else []


def _lines(axes: Axes, panel: Panel, answers: Sequence[PanelSeries], shown: Shown) -> None:
    bases: dict[str, np.ndarray] = {}
    explained: dict[str, Artist] = {}  # matplotlib's own legend omits labels that begin with an underscore
    for answer, (colour, dash) in zip(answers, _styles(answers, shown.arms), strict=True):
        seconds, arm = answer.times - shown.span.start, answer.labels.get("arm", "")
        if panel.is_stacked:
            base = bases.get(arm, np.zeros(len(seconds)))
            bases[arm] = base + np.nan_to_num(answer.values)
            where = ~np.isnan(answer.values)
            axes.fill_between(seconds, base, bases[arm], where=where, color=colour, alpha=0.6, lw=0)
            (drawn,) = axes.plot([], [], color=colour, linewidth=6, alpha=0.6)
        else:
            alone = np.count_nonzero(~np.isnan(answer.values)) == 1
            marker = "o" if alone else ""  # a line of one point would be invisible
            (drawn,) = axes.plot(seconds, answer.values, color=colour, ls=dash, lw=1.3, marker=marker, ms=3)
        explained[answer.legend] = drawn  # a series that returns after a restart is explained once
    axes.set_ylim(bottom=0)
    axis(axes.yaxis, panel.unit)
    _time_axis(axes, shown.span)
    explained.pop("", None)
    _legend_outside(axes, list(explained.values()), list(explained))


def _styles(answers: Sequence[PanelSeries], arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return colour and dash of each series; colour shows the node if there is one, else the arm, else the legend."""
    kinds = list(dict.fromkeys(_without_arm(answer) for answer in answers))
    has_nodes = bool({answer.labels.get("node") for answer in answers} & NODE_COLOURS.keys())
    styles: list[tuple[str, str]] = []
    for answer in answers:
        kind, arm = kinds.index(_without_arm(answer)), answer.labels.get("arm")
        place = arms.index(arm) if arm in arms else 0
        if has_nodes or len(kinds) > DASHED or arm is None:
            colour = NODE_COLOURS.get(answer.labels.get("node", ""), _cycled(kind))
            styles.append((colour, DASHES[place % DASHED]))
        else:
            styles.append((ARM_COLOURS.get(arm, _cycled(place)), DASHES[kind % DASHED]))
    return styles


def _without_arm(answer: PanelSeries) -> str:
    return answer.legend.removeprefix(answer.labels.get("arm", "")).strip()


def _cycled(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _bars(axes: Axes, panel: Panel, answers: Sequence[PanelSeries], shown: Shown) -> None:
    known = [answer for answer in answers if not np.isnan(answer.last)][:MAX_ROWS]
    colours = [colour for colour, _ in _styles(known, shown.arms)]
    bars = axes.barh([answer.legend for answer in known], [answer.last for answer in known], color=colours, height=0.7)
    axes.bar_label(bars, [text_of(answer.last, panel.unit, panel.words) for answer in known], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.grid(visible=False, axis="y")
    axis(axes.xaxis, panel.unit)


def _numbers(axes: Axes, panel: Panel, answers: Sequence[PanelSeries], _: Shown) -> None:
    axes.set_axis_off()
    known = [answer for answer in answers if not np.isnan(answer.last)][:MAX_ROWS]
    for place, answer in enumerate(known):
        height = 1 - (place + 0.5) / len(known)
        text = text_of(answer.last, panel.unit, panel.words)
        axes.text(0.48, height, answer.legend, transform=axes.transAxes, ha="right", va="center", fontsize=10)
        axes.text(0.52, height, text, transform=axes.transAxes, va="center", fontsize=15, fontweight="bold")


def _merged(panel: Panel, answers: Sequence[PanelSeries]) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Return labels and texts of each row of a table; as Grafana's `merge` does, a row joins rows with more labels."""
    rows: list[tuple[dict[str, str], dict[str, str]]] = []
    for answer in sorted(answers, key=lambda answer: -len(answer.labels)):
        labels = dict(answer.labels)
        text = text_of(answer.last, answer.line.unit or panel.unit, panel.words)
        refined = [row for row in rows if labels.items() <= row[0].items()]
        for _, texts in refined or [(labels, {})]:
            texts[answer.line.legend] = text
        if not refined:
            rows.append((labels, {answer.line.legend: text}))
    return rows[:MAX_ROWS]


def _cells(axes: Axes, panel: Panel, answers: Sequence[PanelSeries], _: Shown) -> None:
    axes.set_axis_off()
    columns = [line.legend for line in panel.lines if line.legend]
    names = sorted({name for answer in answers for name in answer.labels})
    text = [
        [*(labels.get(name, "") for name in names), *(texts.get(column, "") for column in columns)]
        for labels, texts in _merged(panel, answers)
    ]
    heads = [
        fill(head.replace("/", "/ "), 14, break_long_words=False).replace("/ ", "/") for head in (*names, *columns)
    ]
    # in letters: a run's name takes thrice the room of a number
    letters = [
        max(len(line) for cell in column for line in cell.splitlines() or [""]) + 2
        for column in zip(heads, *text, strict=True)
    ]
    widths = [each / sum(letters) for each in letters]
    table = axes.table(
        text, colLabels=heads, bbox=Bbox.unit(), edges="horizontal", cellLoc="left", colLoc="left", colWidths=widths
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)


def _heat(axes: Axes, panel: Panel, answers: Sequence[PanelSeries], shown: Shown) -> None:
    bounds, counts = by_bucket(answers)
    seconds = answers[0].times - shown.span.start
    edges = (
        np.append(seconds, 2 * seconds[-1] - seconds[-2])
        if len(seconds) > 1
        else np.array([seconds[0], seconds[0] + 1])
    )
    filled = np.flatnonzero(np.nansum(counts, axis=1))
    first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, len(bounds))
    drawn = np.ma.masked_less_equal(np.ma.masked_invalid(counts[first:last]), 0)
    mesh = axes.pcolormesh(edges, np.arange(last - first + 1), drawn, cmap="Blues", norm=PowerNorm(0.5, vmin=0))
    axes.grid(visible=False)
    words = [text_of(float(bound), panel.unit, ()) if bound != "+Inf" else "more" for bound in bounds[first:last]]
    axes.set_yticks(np.arange(last - first) + 1, words, fontsize=7)
    axes.set_ylabel("up to")
    axes.figure.colorbar(mesh, ax=axes, label="count in a step", pad=0.01)
    _time_axis(axes, shown.span)


def _states(axes: Axes, panel: Panel, answers: Sequence[PanelSeries], shown: Shown) -> None:
    rows = list(dict.fromkeys(answer.legend for answer in answers))[:MAX_ROWS]
    words = dict(panel.words)
    for answer in (answer for answer in answers if answer.legend in rows):
        step = float(answer.times[1] - answer.times[0]) if answer.times.size > 1 else shown.span.seconds
        for value, colour in ((0.0, FAILED), (1.0, NODE_COLOURS.get(answer.labels.get("node", ""), FINE))):
            if words.get(value):  # a state without a word stays blank
                at = answer.times[answer.values == value] - shown.span.start
                axes.broken_barh(
                    [(x, step) for x in at.tolist()], (rows.index(answer.legend) - 0.4, 0.8), fc=colour, lw=0
                )
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if words.get(0.0):
        handles = [Line2D([], [], lw=6, color=colour) for colour in (FINE, FAILED)]
        _legend_outside(axes, handles, [words[1.0], words[0.0]])
    _time_axis(axes, shown.span)


def _legend_outside(axes: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=7)


def _time_axis(axes: Axes, span: TimeRange) -> None:
    axes.set_xlim(0, span.seconds)
    axes.set_xlabel(f"seconds since {datetime.fromtimestamp(span.start, UTC):%Y-%m-%d %H:%M:%S} UTC")


KINDS: Mapping[Kind, Callable[[Axes, Panel, Sequence[PanelSeries], Shown], None]] = {
    "timeseries": _lines,
    "stat": _numbers,
    "bargauge": _bars,
    "table": _cells,
    "heatmap": _heat,
    "state-timeline": _states,
}
BY_ROW = {"stat", "bargauge", "state-timeline"}
