"""Pictures of question latency: by node, its distribution, and the hops behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter
from scipy.stats import binomtest

from workload.agent.state import NODES
from workload.analysis.latency import answered
from workload.analysis.wording import number, percent
from workload.charts.canvas import DARK, GREY, MARKERS, duration, legend, name, save, sheet
from workload.panels.colours import COLOURS, NODE_COLOURS
from workload.record.results import group

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.summaries import LatencySummary
    from workload.charts.drawing import Drawing
    from workload.statistics.percentiles import Percentile

ENDINGS = ("done", "enough", "max_hops", "error")
JITTER = 0.16
# A lower part of a bar, as a share of the axis, has no room for its words; they stand above the bar.
LEAST_LABELLED = 0.06
# percent() would round a smaller share to 0.0%.
LEAST_SHARE = 0.0005


def draw(drawing: Drawing[LatencySummary]) -> list[Path]:
    """Draw latency by node, its distribution, and hops."""
    return [draw_nodes(drawing), draw_distribution(drawing), draw_hops(drawing)]


def draw_nodes(drawing: Drawing[LatencySummary]) -> Path:
    """Draw every visit to every node, with median and quartiles."""
    found = drawing.summary["by_node"]
    shares = {node: row["share"] for node, row in found.items()}
    title = "Where does a question's time go?"
    if shares:
        slowest = max(shares, key=shares.__getitem__)
        title = f"{slowest} takes {percent(shares[slowest])} of a question's time"
    canvas, (axes,) = sheet(title, drawing.footer, (4.8,))
    visits = group((row for row in drawing.data.visits if row["outcome"] == "ok"), "node")
    shown = [node for node in NODES if node in found]
    random = np.random.default_rng(0)
    for place, node in enumerate(shown):
        seconds = [row["duration_seconds"] for row in visits[node]]
        colour = NODE_COLOURS.get(node, GREY)
        heights = place + random.uniform(-JITTER, JITTER, len(seconds))
        axes.plot(seconds, heights, "o", color=colour, markersize=3, alpha=0.5, markeredgewidth=0)
        low, high = found[node]["quartiles"]
        axes.plot([low, high], [place, place], color=DARK, linewidth=4, alpha=0.35, solid_capstyle="butt")
        axes.plot(found[node]["median"], place, "|", color=DARK, markersize=16, markeredgewidth=2)
        share = percent(shares[node]) if shares[node] >= LEAST_SHARE else "<0.1%"
        note = f"{share}, median {duration(found[node]['median'])}, n={found[node]['n']}"
        axes.annotate(note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: duration(seconds)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    name(axes, "Every visit, with median and quartiles; right: share of the time of all questions", x="time of a visit")
    return save(canvas, drawing.folder / "latency_by_node.png")


def draw_distribution(drawing: Drawing[LatencySummary]) -> Path:
    """Draw the share of questions answered within a time, with percentiles and their intervals."""
    rows = drawing.summary["latency_seconds"]
    title = "How long does a question take?"
    if rows:
        title = f"Half of the questions are answered within {number(rows[0]['value'])} s (n={rows[0]['n']})"
    canvas, (axes,) = sheet(title, drawing.footer, (3.6,))
    types = group(answered(drawing.data.questions), "type")
    for place, (kind, found) in enumerate(sorted(types.items())):
        seconds = np.sort([row["duration_seconds"] for row in found])
        axes.step(
            [0.0, *seconds],
            np.arange(len(seconds) + 1) / len(seconds),
            where="post",
            color=COLOURS[place],
            linewidth=1.6,
            linestyle=("-", "--", ":")[place % 3],
            label=f"{kind} (n={len(found)})",
        )
    for row in rows:
        _percentile(axes, row)
    axes.set_ylim(0, 1.06)
    axes.set_xlim(left=0)
    legend(axes, "lower right")
    name(
        axes,
        "Share of questions answered within a time, by type; marked: percentiles of all with 95 % intervals",
        x="seconds from start to answer",
        y="share of questions",
    )
    return save(canvas, drawing.folder / "latency_distribution.png")


def _percentile(axes: Axes, row: Percentile) -> None:
    if (value := row["value"]) is None:
        return
    fill = DARK if row["ci"] else "white"
    if row["ci"]:
        axes.plot(row["ci"], [row["p"]] * 2, color=DARK, linewidth=1.2)
    axes.plot(value, row["p"], "D", color=DARK, markerfacecolor=fill, markersize=6)
    note = f"P{100 * row['p']:.0f} {number(value)} s" + ("" if row["ci"] else f" (n={row['n']}, no CI)")
    # A distribution lies above and left of its percentiles.
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
    axes.annotate(note, (value, row["p"]), (8, -12), textcoords="offset points", fontsize=8, bbox=paper)


def draw_hops(drawing: Drawing[LatencySummary]) -> Path:
    """Draw the share of questions by hops for each type, and below why their loops ended."""
    found, endings = drawing.summary["hops_by_type"], drawing.summary["endings"]
    means = " and ".join(
        f"{number(row['mean'])} {'hop' if row['mean'] == 1 else 'hops'} per {kind} question"
        for kind, row in found.items()
    )
    title = f"{means} on average" if means else "No question was answered"
    canvas, (upper, lower) = sheet(title, drawing.footer, (2.9, 2.6))
    counted = [*found.values(), *endings.values()]
    seen = [int(hops) for row in counted for hops in row["hops"]]
    places = range(min(seen, default=1), max(seen, default=1) + 1)
    for order, (kind, row) in enumerate(found.items()):
        for hops in places:
            successes = row["hops"].get(str(hops), 0)
            low, high = binomtest(successes, row["n"]).proportion_ci(method="wilson")
            at = hops + (order - (len(found) - 1) / 2) * 0.16
            share = successes / row["n"]
            axis_error = [[share - low], [high - share]]
            upper.errorbar(at, share, axis_error, color=COLOURS[order], marker=MARKERS[order], capsize=3, markersize=6)
        upper.plot([], [], color=COLOURS[order], marker=MARKERS[order], label=f"{kind} (n={row['n']})")
    upper.set_ylim(0, 1.05)
    legend(upper)
    name(upper, "Questions by the hops they took, with 95 % intervals (Wilson)", y="share of the type")
    bottom = np.zeros(len(places))
    stacks = [sum(row["hops"].get(str(hops), 0) for row in endings.values()) for hops in places]
    top = max(1.0, 1.15 * max(stacks))
    above: dict[int, list[str]] = {}
    shades = dict(zip(ENDINGS, (COLOURS[2], COLOURS[4], COLOURS[5], GREY), strict=True))
    for ending, hatch in zip(ENDINGS, ("", "..", "//", "xx"), strict=True):
        counts = endings[ending]["hops"] if ending in endings else {}
        numbers = np.array([counts.get(str(hops), 0) for hops in places])
        bars = lower.bar(places, numbers, 0.5, bottom, color=shades[ending], hatch=hatch, edgecolor="white")
        labels = [f"{ending}: {count}" if count >= LEAST_LABELLED * top else "" for count in numbers]
        for hops, count in zip(places, numbers, strict=True):
            if 0 < count < LEAST_LABELLED * top:
                above.setdefault(hops, []).append(f"{ending}: {count}")
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        for text in lower.bar_label(bars, labels, label_type="center", fontsize=8, color=DARK):
            text.set_bbox(paper if text.get_text() else None)
        bottom += numbers
    for hops, texts in above.items():
        end = (hops, float(bottom[places.index(hops)]))
        lower.annotate(", ".join(texts), end, (0, 3), textcoords="offset points", ha="center", fontsize=8)
    lower.set_xticks(places)
    lower.set_ylim(top=top)
    lower.yaxis.set_major_locator(MaxNLocator(integer=True))
    upper.yaxis.set_major_formatter(PercentFormatter(1.0))
    name(lower, "Why each loop ended, and after how many hops", x="hops", y="questions")
    return save(canvas, drawing.folder / "hops_by_question_type.png")
