"""The sheet that charts are drawn on: title and footer as in every figure, panels one below the other."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure

from workload.charts.time_series import WIDTH_INCHES, write, write_footer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

TITLE_CHARS = 72
EDGE_INCHES = 0.08
GREY, DARK, PALE = "#666666", "#222222", "#dddddd"
# Told apart in grey where colours are not.
MARKERS = ("o", "s", "^", "D")


def sheet(title: str, footer: str, heights: Sequence[float], *, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its panels, from top to bottom, `heights` in inches each."""
    canvas = _blank(title, footer, heights)
    grid = canvas.subplots(len(heights), 1, sharex=share_x, squeeze=False, height_ratios=heights)
    panels = list(grid[:, 0])
    _plain(panels)
    return canvas, panels


def mosaic(
    title: str, footer: str, cells: Sequence[Sequence[str]], heights: Sequence[float]
) -> tuple[Figure, dict[str, Axes]]:
    """Return an empty figure and its panels by name; a name repeated in a row of `cells` takes as many columns."""
    canvas = _blank(title, footer, heights)
    panels = canvas.subplot_mosaic([list(row) for row in cells], height_ratios=heights)
    _plain(panels.values())
    return canvas, panels


def _blank(title: str, footer: str, heights: Sequence[float]) -> Figure:
    canvas = Figure(figsize=(WIDTH_INCHES, 1.1 + sum(heights)))
    canvas.set_layout_engine("constrained", w_pad=EDGE_INCHES)
    canvas.suptitle(fill(title, TITLE_CHARS), x=0.01, ha="left", fontsize=13, fontweight="bold")
    write_footer(canvas, footer)
    return canvas


def _plain(panels: Iterable[Axes]) -> None:
    for axes in panels:
        axes.grid(visible=True, color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


def name(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Write a panel's title and its axes' labels with their units."""
    axes.set_title(fill(title, 100), loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def legend(axes: Axes, place: Literal["upper left", "lower right"] = "upper left", columns: int = 1) -> None:
    """Explain what no label beside a line could; nothing where nothing was drawn."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc=place, ncols=columns)


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it, with three significant digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def save(canvas: Figure, path: Path) -> Path:
    """Write the figure and return its path."""
    return write(canvas, path)
