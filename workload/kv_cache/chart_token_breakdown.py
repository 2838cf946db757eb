"""Draws the parts of a question's prompts, and how much of each must be computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from workload.charts.canvas import DARK, GREY, MARKERS, name, save, sheet
from workload.kv_cache.chart_kv_cache import cells_of, divide_hops, footer, label_of, mark
from workload.kv_cache.parts import PARTS
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

# Parts are not arms: they have the palette's colours that three arms leave, its yellow, and grey.
PART_COLOURS = dict(zip(PARTS, ("#999999", "#CC79A7", "#F0E442", "#56B4E9", "#D55E00"), strict=True))


def draw_breakdown(summary: dict[str, Any], path: Path) -> Path:
    """Draw the parts of a question's prompts and how much of each must be computed, then the same by node and hop."""
    arms = summary["arms"]
    canvas, (whole, nodes) = sheet(_title(summary), footer(summary), (0.9 + 0.55 * len(arms), 3.0), share_x=False)
    name(whole, "A question's prompt tokens: computed by part, then reusable", "tokens per question, mean")
    for row, found in enumerate(arms.values()):
        _stack(whole, row, found)
    whole.set_yticks(range(len(arms)), list(arms))
    whole.invert_yaxis()
    whole.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    whole.margins(x=0.26)
    whole.grid(visible=False, axis="y")
    has_parts = all(found["parts"] for found in arms.values())
    keys = [Patch(color=PART_COLOURS[part], label=part) for part in PARTS] if has_parts else []
    keys.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", label="reusable"))
    whole.legend(handles=keys, loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=6, fontsize=8, frameon=False)
    mark(whole, summary)
    _by_node(nodes, arms)
    return save(canvas, path)


def _stack(axes: Axes, row: int, found: dict[str, Any]) -> None:
    """Draw one arm: the parts that must be computed, their interval, then the reusable tokens."""
    left, total = 0.0, found["prompt_tokens_per_question"]
    uncached = found["uncached_tokens_per_question"]
    parts = found["parts"] or {"computed": {"uncached": uncached}}
    for part, tokens in parts.items():
        colour = PART_COLOURS.get(part, COLOURS[0])
        axes.barh(row, tokens["uncached"], 0.6, left, color=colour, edgecolor="white", linewidth=0.5)
        left += tokens["uncached"]
    axes.barh(row, total - left, 0.6, left, color="white", edgecolor=GREY, hatch="////", linewidth=0.5)
    interval = "\nno CI"
    if found["uncached_tokens_per_question_ci"]:
        low, high = found["uncached_tokens_per_question_ci"]
        axes.errorbar(uncached, row, xerr=[[uncached - low], [high - uncached]], color=DARK, capsize=3, linewidth=1.2)
        interval = f"\n95 % CI {low:,.0f} to {high:,.0f}"
    text = f"{uncached:,.0f} of {total:,.0f}{interval}"
    axes.annotate(text, (total, row), (5, 0), textcoords="offset points", va="center", fontsize=8, color=DARK)


def _by_node(axes: Axes, arms: dict[str, Any]) -> None:
    cells = cells_of(cell for found in arms.values() for cell in found["computed_by_cell"])
    width = 0.8 / len(arms)
    for number, (arm, found) in enumerate(arms.items()):
        rows = {(cell["hop"], cell["node"]): cell for cell in found["computed_by_cell"]}
        at = [position for position, cell in enumerate(cells) if cell in rows]
        values = [rows[cells[position]] for position in at]
        mean = np.array([cell["uncached_mean"] for cell in values])
        edges = [[cell[key] for cell in values] for key in ("uncached_p10", "uncached_p90")]
        # Without a percentile there is no bar.
        low, high = (np.array(row, dtype=np.float64) for row in edges)
        spread = np.nan_to_num([mean - low, high - mean])
        axes.errorbar(
            np.array(at) + (number - (len(arms) - 1) / 2) * width,
            mean,
            yerr=np.maximum(spread, 0),
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number],
            markersize=5,
            linewidth=1.2,
            label=arm,
        )
    title = "To be computed per call, by node and hop: mean, and 10th to 90th percentile of the calls"
    name(axes, title, "", "tokens per call")
    axes.set_xticks(range(len(cells)), [label_of(cell) for cell in cells], rotation=35, ha="right", fontsize=8)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.legend(fontsize=8, frameon=False, ncols=len(arms), loc="upper left", bbox_to_anchor=(0, 1.0))
    axes.margins(y=0.2)
    axes.set_ylim(bottom=-0.04 * axes.get_ylim()[1])
    divide_hops(axes, cells)


def _title(summary: dict[str, Any]) -> str:
    arms = summary["arms"]
    best = min(arms, key=lambda arm: float(arms[arm]["uncached_tokens_per_question"]))
    first = summary["compared_with"]
    uncached = f"{best} leaves {arms[best]['uncached_tokens_per_question']:,.0f} prompt tokens per question to compute"
    return uncached if best == first else f"{uncached}, {first} {arms[first]['uncached_tokens_per_question']:,.0f}"
