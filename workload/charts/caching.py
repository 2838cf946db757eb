"""What prefix caching changes: in each question, and at each concurrency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from matplotlib.ticker import PercentFormatter

from workload.analysis.levels import load_in_words, load_of
from workload.analysis.rate import note
from workload.analysis.wording import number, percent
from workload.charts.canvas import DARK, name, save, sheet
from workload.charts.concurrency import CONCURRENCY, level_axis
from workload.charts.marks import Mark, draw_marks
from workload.charts.paired import Pair, draw_pairs, lightest, result_in_words
from workload.statistics.throughput import CLOSED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workload.analysis.ab import Quantity
    from workload.analysis.summaries import CachingComparison, CachingLevel, VllmMetricsSummary
    from workload.charts.drawing import Drawing

Levels = dict[str, "CachingLevel"]


def draw_result(drawing: Drawing[VllmMetricsSummary]) -> Path:
    """Draw each question with caching off and on, at the lightest load."""
    summary, data = drawing.summary, drawing.data
    found: CachingComparison = summary
    caveats = ["one start per arm"] if summary["order"] == "AB" else []
    if levels := summary["levels"]:
        point = lightest(list(levels))
        found, data = levels[point], data.at(point)
        caveats.append(load_in_words(point))
    on = drawing.arms[1]
    served, allowed = found["hit_rate"][on]["responses"]["hit_rate"], found["amdahl"]["predicted_end_to_end_change"]
    begin = "With caching a" if served is None else f"The cache served {percent(served)} of the prompt tokens; a"
    title = begin + result_in_words(found["compared"]["end_to_end_seconds"], allowed, caveats)
    return draw_pairs(drawing, data, title, pairs=[Pair(on, found["compared"], allowed)], hits=found["hit_rate"])


def draw_levels(drawing: Drawing[VllmMetricsSummary]) -> Path:
    """Draw one panel per quantity against concurrency, with caching off and on; bars are 95 % intervals."""
    levels: Levels = drawing.summary["levels"]
    off, on = drawing.arms
    at = {point: int(load_of(point)[1]) for point in levels}
    canvas, panels = sheet(_title(drawing), f"{drawing.footer}\nestimator: {CLOSED}", (2.4, 2.4, 2.4, 2.4))
    hits = {point: level["hit_rate"][on] for point, level in levels.items()}
    bounds = [(at[point], found["bound"]["hit_rate"]) for point, found in hits.items()]
    measured = [(at[point], found["responses"]["hit_rate"]) for point, found in hits.items()]
    for title, pairs, marker, size in (
        ("reuse bound of the same prompts", bounds, "_", 16),
        ("measured (cached_tokens)", measured, "o", 6),
    ):
        known = [pair for pair in pairs if pair[1]]
        panels[0].plot(*zip(*known, strict=True), marker, color=DARK, markersize=size, label=title)
    panels[0].legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    panels[0].set_ylim(0, 1)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    quantities: tuple[Quantity, Quantity] = ("uncached_prefill_tokens", "time_to_first_token_seconds")
    for axes, quantity in zip(panels[1:], quantities, strict=False):
        draw_marks(axes, [(off, _compared(levels, at, quantity, "a")), (on, _compared(levels, at, quantity, "b"))])
    draw_marks(panels[3], [(arm, _throughput(levels, at, arm)) for arm in (off, on)])
    name(panels[0], f"Prompt tokens served from the cache, {on} ({off} has no cache to count)", y="share")
    name(panels[1], "Prompt tokens computed per question, median; bars: 95 %", y="tokens")
    name(panels[2], "Time to first token, mean of a question's calls, median; bars: 95 %", y="seconds")
    name(panels[3], "Answers per second; bars: 95 %", x=CONCURRENCY, y="questions / s")
    level_axis(panels[3], sorted(at.values()))
    return save(canvas, drawing.folder / "caching_by_concurrency.png")


def _title(drawing: Drawing[VllmMetricsSummary]) -> str:
    """Return the greatest change of a question's time that chance does not explain, with its caveat; else the hits."""
    levels: Levels = drawing.summary["levels"]
    off, on = drawing.arms
    clear = {
        point: row["change"] or 0.0
        for point, level in levels.items()
        if (ci := (row := level["compared"]["end_to_end_seconds"])["change_ci"]) and ci[0] * ci[1] > 0
    }
    if clear:
        point = max(clear, key=lambda found: abs(clear[found]))
        before, after = (number(levels[point]["throughput"][arm]["per_second"]) for arm in (off, on))
        caveat = "; one start per arm, so drift may explain it" if drawing.summary["order"] == "AB" else ""
        change = f"{percent(abs(clear[point]))} {'more' if clear[point] > 0 else 'less'} time"
        at = f"{load_in_words(point)} ({before} to {after} answers / s)"
        return f"With caching, a question takes {change} with {at}{caveat}"
    rates = [level["hit_rate"][on]["responses"]["hit_rate"] for level in levels.values()]
    known = [rate for rate in rates if rate is not None]
    if not known:
        return "What does prefix caching change at each concurrency?"
    return f"Prefix caching serves {percent(min(known))} to {percent(max(known))} of the prompt tokens at each level"


def _compared(levels: Levels, at: dict[str, int], quantity: Quantity, side: Literal["a", "b"]) -> Sequence[Mark]:
    marks = []
    for point, level in levels.items():
        row = level["compared"][quantity]
        if (value := row[side]) is not None:
            marks.append(Mark(at[point], value, row["a_ci"] if side == "a" else row["b_ci"], f"n={row['shared']}"))
    return marks


def _throughput(levels: Levels, at: dict[str, int], arm: str) -> Sequence[Mark]:
    marks = []
    for point, level in levels.items():
        found = level["throughput"][arm]
        if (rate := found["per_second"]) is not None:
            marks.append(Mark(at[point], rate, found["ci"], note(found["n"], found["ci"])))
    return marks
