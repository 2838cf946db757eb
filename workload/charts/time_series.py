"""Draws a figure's panels with matplotlib: stacked axes that share time, one colour per arm in every figure."""

from __future__ import annotations

import math
from contextvars import ContextVar
from io import BytesIO
from itertools import chain, cycle
from textwrap import fill
from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, PercentFormatter

from workload.analysis.levels import load_in_words
from workload.analysis.wording import size
from workload.files import atomic_file
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.panels.data import Trace
    from workload.panels.panel import Figure, Panel

# A dollar in the name of a model or of an arm is a dollar: what is drawn is data, and never a formula.
mpl.rcParams["text.parse_math"] = False

FORMATS = ("png", "svg", "pdf")
"""In which a figure can be written; a report shows PNG, so that is always written."""
further_formats: ContextVar[tuple[str, ...]] = ContextVar("further_formats", default=())

DASHES: tuple[Literal["solid", "dashed", "dotted"], ...] = ("solid", "dashed", "dotted")
AXIS_LABELS = {
    "percentunit": "share",
    "short": "count",
    "s": "seconds",
    "bytes": "",
    "reqps": "per second",
    "eps": "per second",
    "tokens/s": "tokens / s",
    "hertz": "Hz",
    "celsius": "\u00b0C",
    "watt": "W",
    "none": "",
}
# The title leaves the arms' names their place at its right.
TITLE_CHAR_INCHES, LEGEND_INCHES = 0.11, 1.2
# Loads are drawn beside each other, so many in a row.
MAX_COLUMNS, COLUMN_INCHES = 4, 2.4
WIDTH_INCHES, PANEL_HEIGHT_INCHES, DOTS_PER_INCH = 8.0, 2.3, 150
FOOTER_CHARS = 140
# Room for the words on top of the highest line.
HEADROOM = 1.3
MAX_STEPS = 6


def draw(
    figure: Figure,
    traces: Mapping[str, Sequence[Trace]],
    arms: Sequence[str],
    footer: str,
    path: Path,
    *,
    title: str = "",
) -> None:
    """Draw a figure to a PNG file: a row for each panel, a column for each load.

    Args:
        figure: what to draw.
        traces: the traces of each panel by its key; see `workload.panels.data.fetch`.
        arms: all arms in order, which gives each its colour whether it has data or not.
        footer: where the data come from, in one or two lines.
        path: the file.
        title: what the run shows, instead of what the figure asks.
    """
    colours = dict(zip(arms, COLOURS, strict=False))
    flat = [panel for panel in figure.panels if _is_zero(traces[panel.key], arms)]
    panels = [panel for panel in figure.panels if panel not in flat] or figure.panels
    points, short = _columns(panels, traces)
    columns = min(len(points), MAX_COLUMNS)
    rows = len(panels) * math.ceil(len(points) / columns)
    width = max(WIDTH_INCHES, COLUMN_INCHES * columns)
    canvas = Canvas(figsize=(width, 1.1 + PANEL_HEIGHT_INCHES * rows), layout="constrained")
    room = width - LEGEND_INCHES * len(colours)
    canvas.suptitle(
        fill(title or figure.title, round(room / TITLE_CHAR_INCHES)), x=0.01, ha="left", fontsize=13, fontweight="bold"
    )
    grid = canvas.subplots(rows, columns, squeeze=False)
    for panel, block in zip(panels, np.split(grid, len(panels)), strict=True):
        zero = _zero_lines(traces[panel.key], arms)
        moving = [trace for trace in traces[panel.key] if trace.legend not in zero]
        _draw_row(panel, block.ravel().tolist(), points, moving, colours)
    for axes in grid[-1][:1] if columns > 1 else grid[-1]:
        axes.set_xlabel("seconds since the window's first scrape", loc="left")
    canvas.legend(
        handles=[Line2D([], [], color=colour, linewidth=2, label=arm) for arm, colour in colours.items()],
        loc="outside upper right",
        ncols=len(colours),
        frameon=False,
    )
    notes = [f"0 throughout: {panel.title}" for panel in flat if panel not in panels]
    notes += [
        f"0 throughout: {panel.title}, {legend}" for panel in panels for legend in _zero_lines(traces[panel.key], arms)
    ]
    notes += (
        [f"left out, shorter than what a rate looks back over: {', '.join(map(load_in_words, short))}"] if short else []
    )
    write_footer(canvas, "\n".join((footer, *notes)))
    write(canvas, path)


def _is_zero(traces: Sequence[Trace], arms: Sequence[str]) -> bool:
    """Return whether each arm has values and all of them are 0: a sentence says that better than an empty panel."""
    known = {trace.arm for trace in traces if np.isfinite(trace.values).any()}
    return known == set(arms) and not any(np.nanmax(trace.values, initial=0.0) for trace in traces)


def _zero_lines(traces: Sequence[Trace], arms: Sequence[str]) -> list[str]:
    """Return the legends of the lines that are 0 throughout, where another line of the panel is not."""
    by_legend: dict[str, list[Trace]] = {}
    for trace in traces:
        by_legend.setdefault(trace.legend, []).append(trace)
    zero = [legend for legend, own in by_legend.items() if _is_zero(own, arms)]
    return zero if len(zero) < len(by_legend) else []


def _columns(panels: Sequence[Panel], traces: Mapping[str, Sequence[Trace]]) -> tuple[list[str], list[str]]:
    """Return the loads at which no line is missing that another load has, and the others; all where each lacks one."""
    points = list(dict.fromkeys(trace.point for panel in panels for trace in traces[panel.key]))
    lines = {
        point: {
            (panel.key, trace.arm)
            for panel in panels
            for trace in traces[panel.key]
            if trace.point == point and trace.values.size
        }
        for point in points
    }
    every = set().union(*lines.values())
    whole = [point for point in points if lines[point] == every]
    if len(points) < 2 or not whole:
        return points or [""], []
    return whole, [point for point in points if point not in whole]


def write(canvas: Canvas, path: Path) -> Path:
    """Write a canvas as PNG to `path`, which is returned, and beside it in each of the `further_formats`."""
    for kind in further_formats.get():
        atomic_file.write(path.with_suffix(f".{kind}"), _rendered(canvas, kind))
    return atomic_file.write(path, png(canvas))


def png(canvas: Canvas) -> bytes:
    """Return a canvas as the bytes of a PNG file that carries its title, and as description the panels' titles."""
    return _rendered(canvas, "png")


def _rendered(canvas: Canvas, kind: str) -> bytes:
    picture = BytesIO()
    titles = (" ".join(axes.get_title(loc="left").split()) for axes in canvas.axes)
    panels = "; ".join(filter(None, titles))
    words = {"Title": " ".join(canvas.get_suptitle().split()), "Subject" if kind == "pdf" else "Description": panels}
    canvas.savefig(picture, dpi=DOTS_PER_INCH, format=kind, metadata=words)
    return picture.getvalue()


def write_footer(canvas: Canvas, footer: str) -> None:
    """Write where the data come from below everything else, in lines that fit."""
    lines = "\n".join(fill(line, FOOTER_CHARS) for line in footer.splitlines())
    canvas.supxlabel(lines, fontsize=7, color="#555555", x=0.01, ha="left")


def _draw_row(
    panel: Panel, cells: Sequence[Axes], points: Sequence[str], traces: Sequence[Trace], colours: Mapping[str, str]
) -> None:
    """Draw a panel at each load, on one scale."""
    for axes in cells[len(points) :]:
        axes.remove()
    drawn = cells[: len(points)]
    for axes, point in zip(drawn, points, strict=True):
        _draw_panel(axes, panel, [trace for trace in traces if trace.point == point], colours)
        if len(points) > 1:
            axes.text(0.99, 0.84, load_in_words(point), transform=axes.transAxes, ha="right", va="top", fontsize=9)
            axes.tick_params(labelleft=axes is drawn[0])
            if axes is not drawn[0]:
                _remove_words(axes)
    top = max(axes.get_ylim()[1] for axes in drawn)
    for axes in drawn:
        axes.set_ylim(0, top)
        axes.set_xlim(left=0)
    drawn[0].set_title(panel.title, loc="left", fontsize=10)
    drawn[0].set_ylabel(AXIS_LABELS[panel.unit])


def _remove_words(axes: Axes) -> None:
    """Remove the legend and the notes on silent arms, which the picture of the first load has."""
    if legend := axes.get_legend():
        legend.remove()
    for text in axes.texts[:-1]:
        text.remove()


def _draw_panel(axes: Axes, panel: Panel, traces: Sequence[Trace], colours: Mapping[str, str]) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    told = list(dict.fromkeys(trace.legend for trace in traces))
    of_lines = ([legend for legend in told if line.has(legend)] for line in panel.lines)
    legends = list(dict.fromkeys(chain.from_iterable(of_lines)))
    dashes = dict(zip(legends, cycle(DASHES), strict=False))
    for trace in traces:
        axes.plot(
            trace.seconds,
            trace.values,
            color=colours[trace.arm],
            linestyle=dashes.get(trace.legend, "solid"),
            linewidth=1.4,
            alpha=0.9,
            # a value is of the step that ends at its time
            drawstyle="steps-pre" if panel.is_gauge else "default",
        )
    top = max((float(np.nanmax(trace.values)) for trace in traces if np.isfinite(trace.values).any()), default=0.0)
    if panel.unit == "percentunit":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif panel.unit == "bytes":
        axes.yaxis.set_major_locator(MultipleLocator(binary_step(HEADROOM * top)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    elif panel.unit == "short":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set_ylim(0, HEADROOM * top or 1.0)
    if len(legends) > 1:
        handles = [Line2D([], [], color="#444444", linestyle=dash, label=name) for name, dash in dashes.items()]
        axes.legend(handles=handles, loc="upper right", fontsize=8, frameon=False, ncols=len(handles))
    silent = [arm for arm in colours if not any(trace.values.size for trace in traces if trace.arm == arm)]
    words = [f"{arm}: {panel.empty}" for arm in silent]
    if len(silent) < len(colours) and not top:
        words.append("0 throughout" if not silent else "otherwise 0 throughout")  # the axis would hide the line
    if words:
        text = "\n".join(words)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2}
        axes.text(0.01, 0.96, text, transform=axes.transAxes, fontsize=9, va="top", color="#333333", bbox=box)


def binary_step(top: float) -> float:
    """Return the power of two, in bytes, that divides an axis up to `top` into three to six steps."""
    return float(2 ** max(math.ceil(math.log2(top / MAX_STEPS)), 0)) if top > 0 else 1.0
