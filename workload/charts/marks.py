"""Values of several arms at the same places: a mark each, its interval, how many it is made of, the arm's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.charts.canvas import DARK, MARKERS
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

HEADROOM = 1.35


@dataclass(frozen=True)
class Mark:
    """A value at `x`; with a `note` it claims to be an estimate, and is hollow where it has no interval `ci`."""

    x: float
    y: float
    ci: Sequence[float] | None = None
    note: str = ""


def draw_marks(axes: Axes, arms: Sequence[tuple[str, Sequence[Mark]]]) -> None:
    """Draw the marks of each arm with its name at the last one.

    Of two at one place the higher is noted above it; the other, if its note is another, below it.
    """
    placed = [(place, mark) for place, (_, marks) in enumerate(arms) for mark in marks]
    highest = {
        x: max((mark.y, -place, mark.note) for place, mark in placed if mark.x == x)
        for x in {mark.x for _, mark in placed}
    }
    for place, (_, marks) in enumerate(arms):
        line = [mark.x for mark in marks], [mark.y for mark in marks]
        axes.plot(*line, color=COLOURS[place], linewidth=1.2, alpha=0.7)
    for place, mark in placed:
        colour = COLOURS[place]
        if mark.ci:
            axes.plot([mark.x, mark.x], mark.ci, color=colour, linewidth=1.4)
        fill = "white" if mark.note and not mark.ci else colour
        axes.plot(mark.x, mark.y, MARKERS[place], color=colour, markerfacecolor=fill, markersize=6, clip_on=False)
        is_above = (mark.y, -place, mark.note) == highest[mark.x]
        if is_above or mark.note != highest[mark.x][2]:
            _annotate(axes, mark, is_above=is_above)
    ordered = sorted((marks[-1].y, -place, arm, marks[-1].x) for place, (arm, marks) in enumerate(arms) if marks)
    beside = 28 if any(mark.note for _, mark in placed) else 9
    for rank, (y, _, arm, x) in enumerate(ordered):
        above = "bottom" if rank == len(ordered) - 1 else "top"
        axes.annotate(
            arm, (x, y), (beside, 0), textcoords="offset points", va=above, fontsize=9, color=DARK, fontweight="bold"
        )
    tops = [max(mark.y, *(mark.ci or ())) if mark.ci else mark.y for _, mark in placed]
    axes.set_ylim(0, HEADROOM * max(tops, default=1.0) or 1.0)
    axes.margins(x=0.14)


def _annotate(axes: Axes, mark: Mark, *, is_above: bool) -> None:
    if not mark.note:
        return
    edge = mark.y if not mark.ci else max(mark.ci) if is_above else min(mark.ci)
    offset, align = ((0, 6), "bottom") if is_above else ((0, -7), "top")
    axes.annotate(
        mark.note, (mark.x, edge), offset, textcoords="offset points", ha="center", va=align, fontsize=7, color=DARK
    )
