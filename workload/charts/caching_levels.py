"""What prefix caching changes at each concurrency: the hit rate beside its bound, time to first token, throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import PercentFormatter

from workload.analysis.levels import load_of
from workload.analysis.rate import note
from workload.analysis.wording import percent
from workload.charts.canvas import DARK, name, save, sheet
from workload.charts.concurrency import CONCURRENCY, level_axis
from workload.charts.marks import Mark, draw_marks
from workload.statistics.throughput import CLOSED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workload.charts.drawing import Drawing

Levels = dict[str, dict[str, Any]]


def draw_levels(drawing: Drawing) -> Path:
    """Draw one panel a quantity against concurrency, caching off and on in each; bars are 95 % intervals."""
    levels: Levels = drawing.summary["levels"]
    off, on = drawing.arms
    at = {point: int(load_of(point)[1]) for point in levels}
    canvas, panels = sheet(_title(levels, on), f"{drawing.footer}\nestimator: {CLOSED}", (2.4, 2.4, 2.4, 2.4))
    hits = {point: level["hit_rate"][on] for point, level in levels.items()}
    for witness, marker, size in (("bound", "_", 16), ("responses", "o", 6)):
        rates = [(at[point], told[witness]["hit_rate"]) for point, told in hits.items() if told[witness]["hit_rate"]]
        title = "bound of the same prompts" if witness == "bound" else "measured (cached_tokens)"
        panels[0].plot(*zip(*rates, strict=True), marker, color=DARK, markersize=size, label=title)
    panels[0].legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    panels[0].set_ylim(0, 1)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes, quantity in ((panels[1], "uncached_prefill_tokens"), (panels[2], "time_to_first_token_seconds")):
        draw_marks(axes, [(arm, _compared(levels, at, quantity, side)) for arm, side in ((off, "a"), (on, "b"))])
    draw_marks(panels[3], [(arm, _throughput(levels, at, arm)) for arm in (off, on)])
    name(panels[0], f"Prompt tokens served from the cache, {on} ({off}: caching off, nothing to count)", y="share")
    name(panels[1], "Prompt tokens computed for a question, median; bars: 95 %", y="tokens")
    name(panels[2], "Time to first token, mean of a question's calls, median; bars: 95 %", y="seconds")
    name(panels[3], "Answers a second; bars: 95 %", x=CONCURRENCY, y="questions / s")
    level_axis(panels[3], sorted(at.values()))
    return save(canvas, drawing.folder / "caching_by_concurrency.png")


def _title(levels: Levels, on: str) -> str:
    rates = [level["hit_rate"][on]["responses"]["hit_rate"] for level in levels.values()]
    told = [rate for rate in rates if rate is not None]
    if not told:
        return "What does prefix caching change at each concurrency?"
    return f"Prefix caching serves {percent(min(told))} to {percent(max(told))} of the prompt tokens, level by level"


def _compared(levels: Levels, at: dict[str, int], quantity: str, side: str) -> Sequence[Mark]:
    rows = ((at[point], level["compared"][quantity]) for point, level in levels.items())
    return [Mark(x, row[side], row[f"{side}_ci"], f"n={row['shared']}") for x, row in rows if row[side] is not None]


def _throughput(levels: Levels, at: dict[str, int], arm: str) -> Sequence[Mark]:
    rows = ((at[point], level["throughput"][arm]) for point, level in levels.items())
    return [Mark(x, row["per_second"], row["ci"], note(row)) for x, row in rows if row["per_second"] is not None]
