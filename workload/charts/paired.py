"""The result of a comparison: what the cache served, and how each question changed from the first arm to another.

Each question is a line from the first arm, where it begins at no change, to the other arm: all quantities share one
scale, and the control stands beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, PercentFormatter

from workload.analysis.ab import COMPARED, CONTROL, Compared, Quantity
from workload.analysis.levels import load_of
from workload.analysis.wording import ABSENT, change, number, percent
from workload.charts.canvas import DARK, GREY, duration, mosaic, name, save
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from workload.analysis.cache import HitRates
    from workload.charts.drawing import Drawing
    from workload.record.results import RunData
    from workload.statistics.paired import Comparison

FILE = "paired.png"
QUANTITIES: Mapping[Quantity, tuple[str, Callable[[float], str]]] = {
    "uncached_prefill_tokens": ("Uncached prompt tokens", number),
    "time_to_first_token_seconds": ("Time to first token", duration),
    "end_to_end_seconds": ("End to end", duration),
    CONTROL: ("Control: decode per token", duration),
}
# More arms than these are compared in the figure of all arms.
MAX_ARMS = 4
ROW_INCHES, HITS_INCHES, BAR_INCHES = 3.0, 0.6, 0.28
# A scale for every question would hide the intervals behind a single slow one.
SHOWN = (2.5, 97.5)
MIN_SPAN = 0.02
MIDDLE = 0.5
TICK_CHARS = 12
# Lines of many questions are fainter, so that where they lie close is still seen.
LINES_IN_FULL = 12


@dataclass(frozen=True)
class Pair:
    """An arm compared with the first; `predicted` is the end-to-end change that theory allows, None without one."""

    arm: str
    compared: Compared
    predicted: float | None


def lightest(points: Sequence[str]) -> str:
    """Return the load with the fewest questions at a time: there a question's time depends least on other questions."""
    return min(points, key=lambda point: load_of(point)[1])


def result_in_words(whole: Comparison, allowed: float | None, caveats: Sequence[str]) -> str:
    """Return how a question's end-to-end time changed, what theory allows, and what limits the result."""
    limits = f" ({'; '.join(caveats)})" if caveats else ""
    if whole["change"] is None:
        return f" question's time cannot be compared: none was answered in both arms{limits}"
    theory = "" if allowed is None else f", theory allows {percent(allowed, signed=True)}"
    return f" question's time changed by {change(whole)}{theory}{limits}"


def draw_pairs(
    drawing: Drawing[Any], data: RunData, title: str, *, pairs: Sequence[Pair], hits: Mapping[str, HitRates]
) -> Path:
    """Draw a row of panels for each of `pairs`, below what the cache served in each arm.

    Args:
        drawing: of the run.
        data: of one load.
        title: what the run shows.
        pairs: the arms to draw against the run's first, compared at that load.
        hits: the hit rates at that load, by arm.
    """
    shown = pairs[:MAX_ARMS]
    arms = (drawing.arms[0], *(pair.arm for pair in shown))
    colours = {arm: COLOURS[drawing.arms.index(arm) % len(COLOURS)] for arm in arms}
    more = [f"not drawn: {', '.join(pair.arm for pair in pairs[MAX_ARMS:])}"] if pairs[MAX_ARMS:] else []
    cells = [["hits"] * len(QUANTITIES), *([f"{pair.arm} {quantity}" for quantity in QUANTITIES] for pair in shown)]
    heights = [HITS_INCHES + BAR_INCHES * len(arms), *(ROW_INCHES for _ in shown)]
    canvas, panels = mosaic(title, "\n".join((*more, drawing.footer)), cells, heights)
    _draw_hits(panels["hits"], {arm: hits[arm] for arm in arms}, colours)
    for pair, row in zip(shown, cells[1:], strict=True):
        _draw_pair([panels[cell] for cell in row], data, arms[0], pair, colours[pair.arm])
    return save(canvas, drawing.folder / FILE)


def _draw_hits(axes: Axes, hits: Mapping[str, HitRates], colours: Mapping[str, str]) -> None:
    """Draw what the cache served in each arm as a bar, and what its prompts allow as a tick."""
    for place, (arm, found) in enumerate(hits.items()):
        served, bound = found["responses"]["hit_rate"], found["bound"]["hit_rate"]
        words, right = found["prefix_caching"], 0.0
        if served is not None:
            axes.barh(place, served, 0.55, color=colours[arm])
            words, right = percent(served), served
        if served is not None and bound is not None:
            axes.plot([bound, bound], [place - 0.42, place + 0.42], color=DARK, linewidth=2)
            words, right = f"{words} served; the prompts allow {percent(bound)} (tick)", max(served, bound)
        # beyond the middle there is no room at the right of a bar
        side, gap = ("left", 6) if right < MIDDLE else ("right", -8)
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
        at = (right, place)
        axes.annotate(words, at, (gap, 0), textcoords="offset points", va="center", ha=side, fontsize=8, bbox=paper)
    axes.set_yticks(range(len(hits)), list(hits))
    axes.set_ylim(len(hits) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    name(axes, "Prompt tokens served from the prefix cache")


def _draw_pair(row: Sequence[Axes], data: RunData, first: str, pair: Pair, colour: str) -> None:
    changes = {quantity: _changes(data, first, pair.arm, quantity) for quantity in QUANTITIES}
    low, high = _span(pair, changes)
    for axes, (quantity, (text, write)) in zip(row, QUANTITIES.items(), strict=True):
        compared = pair.compared[quantity]
        _draw_lines(axes, changes[quantity], compared, colour)
        lines = [text, change(compared), f"n={compared['n']}"]
        if quantity == "end_to_end_seconds" and pair.predicted is not None:
            axes.plot(1.13, pair.predicted, "x", color=COLOURS[4], markersize=8, markeredgewidth=2)
            lines[2] += f"; theory (x): {percent(pair.predicted, signed=True)}"
        axes.set_title("\n".join(lines), loc="left", fontsize=8.5)
        medians = ((first, compared["a"]), (pair.arm, compared["b"]))
        ticks = [f"{fill(arm, TICK_CHARS)}\n{ABSENT if value is None else write(value)}" for arm, value in medians]
        axes.set_xticks([0, 1], ticks, fontsize=8)
        axes.set_xlim(-0.35, 1.35)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:+.0%}" if share else "0"))
        axes.tick_params(labelleft=axes is row[0])
    row[0].set_ylabel("change of each question; below: medians", fontsize=8)


def _changes(data: RunData, first: str, other: str, quantity: Quantity) -> NDArray[np.float64]:
    """Return each question's change from the first arm, shape (n,)."""
    before, after = (data.by_question(arm, COMPARED[quantity]) for arm in (first, other))
    shared = (question for question in before if question in after and before[question] > 0)
    return np.array([after[question] / before[question] - 1 for question in shared], dtype=np.float64)


def _span(pair: Pair, changes: Mapping[Quantity, NDArray[np.float64]]) -> tuple[float, float]:
    """Return the ends of the scale that all quantities of an arm share."""
    ends = [0.0, -MIN_SPAN, MIN_SPAN, pair.predicted or 0.0]
    for quantity, found in changes.items():
        ends += [*(pair.compared[quantity]["change_ci"] or ()), *(np.percentile(found, SHOWN) if found.size else ())]
    room = 0.06 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def _draw_lines(axes: Axes, changes: NDArray[np.float64], compared: Comparison, colour: str) -> None:
    """Draw each question from no change to its change, and over them their median with its interval."""
    alpha = max(0.12, min(0.7, LINES_IN_FULL / max(changes.size, 1)))
    axes.plot([0, 1], [np.zeros_like(changes), changes], color=GREY, linewidth=0.8, alpha=alpha)
    axes.axhline(0, color=DARK, linewidth=0.8)
    if compared["change"] is None:
        axes.annotate("not known", (0.5, 0.5), xycoords="axes fraction", ha="center")
        return
    axes.plot([0, 1], [0, compared["change"]], color=colour, linewidth=2.4)
    if compared["change_ci"]:
        axes.plot([1, 1], compared["change_ci"], color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt")
    face = colour if compared["change_ci"] else "white"
    axes.plot(1, compared["change"], "o", color=colour, markerfacecolor=face, markersize=6)
