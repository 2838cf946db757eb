"""Values of several arms at the same places: a mark each, its interval, how many it is made of, the arm's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workload.charts.canvas import DARK, MARKERS
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

HEADROOM = 1.35
# A text below a mark that is nearer to the axis, as a share of the axis, would cross it.
NEAR_AXIS = 0.15
LINE_POINTS, APART_POINTS = 14, 3


@dataclass(frozen=True)
class Mark:
    """A value at `x`; with a `note` it claims to be an estimate, and is hollow where it has no interval `ci`."""

    x: float
    y: float
    ci: Sequence[float] | None = None
    note: str = ""


def draw_marks(axes: Axes, arms: Sequence[tuple[str, Sequence[Mark]]]) -> None:
    """Draw the marks of each arm with its name at the last one.

    Of two at one place the higher is noted above it; the other, if its note is another, below it, or below the first
    note where the axis is too near.
    """
    placed = [(place, mark) for place, (_, marks) in enumerate(arms) for mark in marks]
    tops = [max(mark.y, *(mark.ci or ())) if mark.ci else mark.y for _, mark in placed]
    top = HEADROOM * max(tops, default=1.0) or 1.0
    for place, (_, marks) in enumerate(arms):
        line = [mark.x for mark in marks], [mark.y for mark in marks]
        axes.plot(*line, color=COLOURS[place], linewidth=1.2, alpha=0.7)
    for place, mark in placed:
        colour = COLOURS[place]
        if mark.ci:
            axes.plot([mark.x, mark.x], mark.ci, color=colour, linewidth=1.4)
        fill = "white" if mark.note and not mark.ci else colour
        axes.plot(mark.x, mark.y, MARKERS[place], color=colour, markerfacecolor=fill, markersize=6, clip_on=False)
    for x in {mark.x for _, mark in placed}:
        _annotate(
            axes, [mark for place, mark in sorted(placed, key=lambda each: (-each[1].y, each[0])) if mark.x == x], top
        )
    ordered = sorted((marks[-1].y, -place, arm, marks[-1].x) for place, (arm, marks) in enumerate(arms) if marks)
    arms_of = {arm: place for place, (arm, _) in enumerate(arms)}
    gap = 28 if any(mark.note for _, mark in placed) else 9
    for rank, (y, _, arm, x) in enumerate(ordered):
        is_low = y < NEAR_AXIS * top / 2
        side = "bottom" if is_low or rank == len(ordered) - 1 else "top"
        apart = APART_POINTS if side == "bottom" else -APART_POINTS
        offset = (gap, LINE_POINTS * rank * is_low + (0 if is_low else apart))
        # coloured text would be too pale to read
        frame = {
            "facecolor": "white",
            "edgecolor": COLOURS[arms_of[arm]],
            "boxstyle": "round,pad=0.2",
            "linewidth": 1.4,
        }
        axes.annotate(arm, (x, y), offset, textcoords="offset points", va=side, fontsize=8, color=DARK, bbox=frame)
    axes.set_ylim(0, top)
    axes.margins(x=0.14)


def _annotate(axes: Axes, marks: Sequence[Mark], top: float) -> None:
    """Write the notes of the marks at one place, which are ordered from the highest to the lowest."""
    above, *others = marks
    notes = [above.note]
    for mark in others:
        edge = min(mark.ci or (mark.y,))
        if mark.note in notes:
            continue
        if edge < NEAR_AXIS * top:
            notes.append(mark.note)
        else:
            _write(axes, mark.note, (mark.x, edge), (0, -7), "top")
    _write(axes, "\n".join(notes), (above.x, max(max(mark.ci or (mark.y,)) for mark in marks)), (0, 6), "bottom")


def _write(
    axes: Axes, note: str, at: tuple[float, float], offset: tuple[int, int], side: Literal["top", "bottom"]
) -> None:
    axes.annotate(note, at, offset, textcoords="offset points", ha="center", va=side, fontsize=7, color=DARK)
