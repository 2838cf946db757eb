"""The reuse bound over block size and pool size, and the parts that all pictures of experiment 1 share."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from workload.agent.state import LLM_NODES
from workload.analysis.wording import percent
from workload.charts.canvas import DARK, MARKERS, PALE, name, save, sheet
from workload.charts.time_series import DASHES
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

MARK_COLOUR = "#D55E00"


def draw_bound(summary: dict[str, Any], path: Path) -> Path:
    """Draw the bound by block size, and by the blocks in the pool."""
    shares = ", ".join(f"{arm} {share_of(summary, arm)}" for arm in summary["arms"])
    title = f"A prefix cache could serve at most: {shares}"
    canvas, (sizes, pools) = sheet(title, footer(summary), (2.4, 2.4), share_x=False)
    flights = list(dict.fromkeys(step["in_flight"] for arm in summary["arms"].values() for step in arm["eviction"]))
    for number, found in enumerate(summary["arms"].values()):
        style: dict[str, Any] = {
            "color": COLOURS[number],
            "marker": MARKERS[number % len(MARKERS)],
            "markersize": 4,
            "linewidth": 1.4,
        }
        sizes.plot(*_columns(found["bounds"], "block_size"), **style)
        for dashes, in_flight in zip(
            DASHES, dict.fromkeys(step["in_flight"] for step in found["eviction"]), strict=False
        ):
            steps = [step for step in found["eviction"] if step["in_flight"] == in_flight]
            pools.plot(*_columns(steps, "pool_blocks"), linestyle=dashes, **style)
    ends = {arm: found["bounds"][-1] for arm, found in summary["arms"].items()}
    _write_apart(sizes, {arm: (end["block_size"], end["share"] or 0.0) for arm, end in ends.items()})
    if flights != [None]:
        handles = [
            Line2D([], [], color=DARK, linestyle=dashes, label=f"{count} question{'s' * (count > 1)} in flight")
            for dashes, count in zip(DASHES, flights, strict=False)
        ]
        pools.legend(handles=handles, fontsize=8, frameon=False, loc="center right")
    name(sizes, "Nothing evicted: the bound falls as blocks grow", "tokens per block", "of prompt tokens")
    name(
        pools,
        f"A pool of N blocks of {summary['block_size']} tokens, least recently used evicted, tails first",
        "blocks in the pool",
        "of prompt tokens",
    )
    for axes in (sizes, pools):
        axes.set_xscale("log", base=2)
        ticks = sorted({float(x) for line in axes.lines for x in np.asarray(line.get_xdata())})
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(0, 1)
        low, high = axes.get_xlim()
        axes.set_xlim(right=high * (high / low) ** 0.2)
    mark(sizes, summary)
    return save(canvas, path)


def footer(summary: dict[str, Any]) -> str:
    """Return the footer of a picture."""
    counts = {f"{arm['questions']} questions, {arm['calls']} calls" for arm in summary["arms"].values()}
    tokenizer = f"; tokenizer {summary['tokenizer']}" if summary["tokenizer"] else ""
    sizes = f"block size {summary['block_size']}; {' or '.join(sorted(counts))} per arm"
    return f"run {summary['run']}{tokenizer}; {sizes}\n{summary['origin']}"


def mark(axes: Axes, summary: dict[str, Any]) -> None:
    """Mark a picture of simulated replies inside the picture, so that a copy stays honest."""
    if summary["is_simulated"]:
        axes.set_title("SIMULATED\nreplies", loc="right", fontsize=8, fontweight="bold", color=MARK_COLOUR)


def share_of(summary: dict[str, Any], arm: str) -> str:
    """Return an arm's bound at the block size of the run, in words."""
    bounds = summary["arms"][arm]["bounds"]
    return percent(next(bound["share"] for bound in bounds if bound["block_size"] == summary["block_size"]))


def cells_of(found: Iterable[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return the (hop, node) of all arms, hop by hop in the agent's order."""
    places = {(cell["hop"], cell["node"]) for cell in found}
    order = {node: position for position, node in enumerate(LLM_NODES)}
    return sorted(places, key=lambda place: (place[0], order.get(place[1], len(order)), place[1]))


def label_of(cell: tuple[int, str]) -> str:
    """Return a cell in words."""
    return f"{cell[1]} {cell[0]}"


def divide_hops(axes: Axes, cells: Sequence[tuple[int, str]]) -> None:
    """Draw a line between hops."""
    for position, (before, after) in enumerate(pairwise(cells)):
        if before[0] != after[0]:
            axes.axvline(position + 0.5, color=PALE, linewidth=1)
            if axes.images:
                axes.axhline(position + 0.5, color=PALE, linewidth=1)


def _columns(rows: Sequence[dict[str, Any]], x: str) -> tuple[list[float], list[float]]:
    known = [row for row in rows if row["share"] is not None]
    return [row[x] for row in known], [row["share"] for row in known]


def _write_apart(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Write each arm's name at the end of its line, moved up if two names would overlap."""
    colours = dict(zip(ends, COLOURS, strict=False))
    height = 0.0
    for arm, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        height = max(y, height + 0.1 if height else 0.04)
        axes.annotate(arm, (x, height), (8, 0), textcoords="offset points", va="center", fontsize=9, color=colours[arm])
