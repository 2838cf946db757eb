"""The pictures of a comparison: each question from the first arm to another, and each arm's paired changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import PercentFormatter

from workload.analysis.ab import CONTROL, Quantity
from workload.analysis.wording import percent
from workload.charts.canvas import DARK, name, save, sheet
from workload.charts.paired import Pair, draw_pairs, result_in_words
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.summaries import AbSummary
    from workload.charts.drawing import Drawing

PANELS: tuple[tuple[Quantity, str], ...] = (
    ("end_to_end_seconds", "End-to-end time of a question"),
    ("time_to_first_token_seconds", "Mean time to first token of a question's calls"),
    ("uncached_prefill_tokens", "Uncached prompt tokens"),
    (CONTROL, "Decode time per token (control)"),
)
INCHES_A_ROW = 0.34


def draw(drawing: Drawing[AbSummary]) -> list[Path]:
    """Draw each question in the fastest arms, then the changes of all arms against the first."""
    return [draw_questions(drawing), draw_arms(drawing)]


def draw_questions(drawing: Drawing[AbSummary]) -> Path:
    """Draw how each question changed from the first arm to the others, the fastest arm on top."""
    summary = drawing.summary
    pairs = [Pair(arm, summary["compared"][arm], summary["predicted"][arm]["change"]) for arm in summary["ranked"]]
    best, caveats = pairs[0], ["one block per arm"] if summary["order"] == "AB" else []
    title = f"With {best.arm} against {summary['first']} a" + result_in_words(
        best.compared["end_to_end_seconds"], best.predicted, caveats
    )
    hits = {arm: found["cache"] for arm, found in summary["arms"].items()}
    return draw_pairs(drawing, drawing.data, title, pairs=pairs, hits=hits)


def draw_arms(drawing: Drawing[AbSummary]) -> Path:
    """Draw the changes of all arms against the first; a hollow mark has no interval, a cross is the prediction."""
    summary = drawing.summary
    ranked = summary["ranked"]
    height = 0.7 + INCHES_A_ROW * len(ranked)
    drawn = [panel for panel in PANELS if not _is_unchanged(summary, panel[0])] or list(PANELS)
    same = [f"the same in every arm: {text}" for quantity, text in PANELS if (quantity, text) not in drawn]
    footer = "\n".join((*same, drawing.footer))
    canvas, panels = sheet(title_of(summary), footer, [height] * len(drawn), share_x=False)
    for axes, (quantity, text) in zip(panels, drawn, strict=True):
        _draw_panel(axes, summary, quantity)
        n = max(summary["compared"][arm][quantity]["n"] for arm in ranked)
        has_cross = any(_predicted(summary, arm, quantity) is not None for arm in ranked)
        cross = " (cross: predicted)" if has_cross else ""
        name(axes, f"{text}{cross}: median paired change, 95 % interval, n={n}")
    panels[-1].set_xlabel(f"change against {summary['first']}, with the same questions")
    return save(canvas, drawing.folder / f"{drawing.experiment}.png")


def _is_unchanged(summary: AbSummary, quantity: Quantity) -> bool:
    """Return whether no arm changes a quantity at all: a sentence says that better than a panel."""
    rows = [summary["compared"][arm][quantity] for arm in summary["ranked"]]
    return all(row["change"] == 0 and not any(row["change_ci"] or ()) for row in rows)


def title_of(summary: AbSummary) -> str:
    """Return what the fastest arm changes, if that can be distinguished from chance."""
    best, first = summary["ranked"][0], summary["first"]
    row = summary["compared"][best]["end_to_end_seconds"]
    if row["change_ci"] is None:
        return f"{best} against {first}: too few questions to exclude chance (n={row['n']})"
    if row["change_ci"][1] >= 0:
        return f"No arm makes a question measurably faster than {first}"
    return f"{best} changes the time of a question by {percent(row['change'], signed=True)} against {first}"


def _predicted(summary: AbSummary, arm: str, quantity: Quantity) -> float | None:
    return summary["predicted"][arm]["change"] if quantity == "end_to_end_seconds" else None


def _draw_panel(axes: Axes, summary: AbSummary, quantity: Quantity) -> None:
    ranked = summary["ranked"]
    for place, arm in enumerate(ranked):
        row = summary["compared"][arm][quantity]
        if row["change"] is None:
            axes.annotate("not known", (0, place), fontsize=8, va="center")
            continue
        if row["change_ci"]:
            axes.plot(row["change_ci"], [place, place], color=COLOURS[0], linewidth=4, alpha=0.5, solid_capstyle="butt")
        face = COLOURS[0] if row["change_ci"] else "white"
        axes.plot(row["change"], place, "o", color=COLOURS[0], markerfacecolor=face, markersize=6)
        note = percent(row["change"], signed=True) + ("" if row["change_ci"] else ", no CI")
        if (predicted := _predicted(summary, arm, quantity)) is not None:
            axes.plot(predicted, place, "x", color=COLOURS[4], markersize=8, markeredgewidth=2)
            note += f"\npredicted {percent(predicted, signed=True)}"
        axes.annotate(note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.set_yticks(range(len(ranked)), ranked, fontsize=8)
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(x=0.1)
