"""The pictures of experiment 1: the reuse bound, shared prefixes, and the parts of a question's prompts.

The heatmap of shared prefixes shows structure, not a sum of reuse.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from workload.agent.state import LLM_NODES
from workload.analysis.wording import percent
from workload.charts.canvas import DARK, GREY, MARKERS, PALE, name, save, sheet
from workload.charts.time_series import DASHES, WIDTH_INCHES, write_footer
from workload.kv_cache.parts import PARTS
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from workload.kv_cache.shapes import ArmBounds, KvCacheSummary, Matrix, Place, SharedPrefixes

MARK_COLOUR = "#D55E00"
# Parts are not arms, so they get the palette's colours that three arms leave free, and grey.
PART_COLOURS = dict(zip(PARTS, ("#999999", "#CC79A7", "#F0E442", "#56B4E9", "#D55E00"), strict=True))


def draw_bound(summary: KvCacheSummary, path: Path) -> Path:
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
        sizes.plot(*_columns((bound["block_size"], bound["share"]) for bound in found["bounds"]), **style)
        for dashes, in_flight in zip(
            DASHES, dict.fromkeys(step["in_flight"] for step in found["eviction"]), strict=False
        ):
            steps = [step for step in found["eviction"] if step["in_flight"] == in_flight]
            points = ((step["pool_blocks"], step["share"]) for step in steps)
            pools.plot(*_columns(points), linestyle=dashes, **style)
    ends = {arm: found["bounds"][-1] for arm, found in summary["arms"].items()}
    _write_apart(sizes, {arm: (end["block_size"], end["share"] or 0.0) for arm, end in ends.items()})
    if handles := [
        Line2D([], [], color=DARK, linestyle=dashes, label=f"{count} question{'s' * (count > 1)} in flight")
        for dashes, count in zip(DASHES, flights, strict=False)
        if count
    ]:
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


def footer(summary: KvCacheSummary) -> str:
    """Return the footer of a picture."""
    counts = {f"{arm['questions']} questions, {arm['calls']} calls" for arm in summary["arms"].values()}
    tokenizer = f"; tokenizer {summary['tokenizer']}" if summary["tokenizer"] else ""
    sizes = f"block size {summary['block_size']}; {' or '.join(sorted(counts))} per arm"
    return f"run {summary['run']}{tokenizer}; {sizes}\n{summary['origin']}"


def mark(axes: Axes, summary: KvCacheSummary) -> None:
    """Mark a picture of simulated replies inside the picture, so that a copy stays honest."""
    if summary["is_simulated"]:
        axes.set_title("SIMULATED\nreplies", loc="right", fontsize=8, fontweight="bold", color=MARK_COLOUR)


def share_of(summary: KvCacheSummary, arm: str) -> str:
    """Return an arm's bound at the block size of the run, in words."""
    bounds = summary["arms"][arm]["bounds"]
    return percent(next(bound["share"] for bound in bounds if bound["block_size"] == summary["block_size"]))


def cells_of(found: Iterable[Place]) -> list[tuple[int, str]]:
    """Return the (hop, node) of all arms, hop by hop in the agent's order."""
    places = {(cell["hop"], cell["node"]) for cell in found}
    order = {node: position for position, node in enumerate(LLM_NODES)}
    return sorted(places, key=lambda place: (place[0], order.get(place[1], len(order)), place[1]))


def label_of(cell: tuple[int, str]) -> str:
    """Return a node and hop as a label."""
    return f"{cell[1]} {cell[0]}"


def divide_hops(axes: Axes, cells: Sequence[tuple[int, str]]) -> None:
    """Draw a line between hops."""
    for position, (before, after) in enumerate(pairwise(cells)):
        if before[0] != after[0]:
            axes.axvline(position + 0.5, color=PALE, linewidth=1)
            if axes.images:
                axes.axhline(position + 0.5, color=PALE, linewidth=1)


def _columns(points: Iterable[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    known = [(x, share) for x, share in points if share is not None]
    return [x for x, _ in known], [share for _, share in known]


def _write_apart(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Write each arm's name at the end of its line, moved up if two names would overlap."""
    colours = dict(zip(ends, COLOURS, strict=False))
    height = 0.0
    for arm, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        height = max(y, height + 0.1 if height else 0.04)
        axes.annotate(arm, (x, height), (8, 0), textcoords="offset points", va="center", fontsize=9, color=colours[arm])


def draw_heatmap(summary: KvCacheSummary, path: Path) -> Path:
    """Draw the mean shared-prefix share of call pairs, one column per arm; pairs must not be added up."""
    arms = summary["arms"]
    cells = cells_of(cell for found in arms.values() for cell in found["shared_prefixes"]["cells"])
    side = min(3.5, 5.4 / len(arms))
    canvas = Figure(figsize=(WIDTH_INCHES, 2.6 + 2 * side), layout="constrained")
    title = "How much of a prompt begins like that of an earlier call?"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    panels = canvas.subplots(2, len(arms), sharex=True, sharey=True, squeeze=False)
    labels = [label_of(cell) for cell in cells]
    for column, (arm, found) in enumerate(arms.items()):
        panels[0, column].set_title(f"{arm}\n{share_of(summary, arm)} reusable", loc="left", fontsize=10)
        shared = found["shared_prefixes"]
        for axes, pairs in zip(panels[:, column], (shared["within_request"], shared["across_requests"]), strict=True):
            image = axes.imshow(_matrix(shared, pairs["share"], cells), cmap="cividis", vmin=0, vmax=1)
            axes.set_xticks(range(len(cells)), labels, rotation=90, fontsize=7)
            axes.set_yticks(range(len(cells)), labels, fontsize=7)
            axes.set_facecolor(PALE)
            axes.spines[:].set_visible(False)
            divide_hops(axes, cells)
    for axes, text in zip(panels[:, 0], ("one question", "two questions"), strict=True):
        axes.set_ylabel(f"calls of {text}\nearlier call", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("later call", fontsize=9)
    bar = canvas.colorbar(image, ax=panels, shrink=0.6, format=PercentFormatter(1.0), pad=0.02)
    bar.set_label("common prefix, share of the later prompt", fontsize=8)
    pictured = max(found["shared_prefixes"]["calls"] for found in arms.values())
    note = f"Mean over all pairs of {pictured} calls per arm; grey: no such pair. Pairs must not be added up."
    write_footer(canvas, f"{note}\n{footer(summary)}")
    mark(panels[0, -1], summary)
    return save(canvas, path)


def _matrix(shared: SharedPrefixes, shares: Matrix, cells: Sequence[tuple[int, str]]) -> NDArray[np.float64]:
    """Return the shares in the order of `cells`; NaN without a pair."""
    place = {cell: position for position, cell in enumerate(cells)}
    at = [place[cell["hop"], cell["node"]] for cell in shared["cells"]]
    matrix = np.full((len(cells), len(cells)), np.nan)
    matrix[np.ix_(at, at)] = np.array(shares, dtype=np.float64)
    return matrix


def draw_breakdown(summary: KvCacheSummary, path: Path) -> Path:
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


def _stack(axes: Axes, row: int, found: ArmBounds) -> None:
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


def _by_node(axes: Axes, arms: dict[str, ArmBounds]) -> None:
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


def _title(summary: KvCacheSummary) -> str:
    arms = summary["arms"]
    best = min(arms, key=lambda arm: float(arms[arm]["uncached_tokens_per_question"]))
    first = summary["compared_with"]
    uncached = f"{best} leaves {arms[best]['uncached_tokens_per_question']:,.0f} prompt tokens per question to compute"
    return uncached if best == first else f"{uncached}, {first} {arms[first]['uncached_tokens_per_question']:,.0f}"
