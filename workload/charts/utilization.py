"""The picture of how busy each resource was, by independent sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import PercentFormatter

from workload.analysis.wording import number, percent, speedup
from workload.charts.canvas import DARK, GREY, PALE, name, save, sheet
from workload.panels.colours import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.overlap import Activity
    from workload.analysis.spans import MeasuredLoad
    from workload.analysis.summaries import PipelineLoad
    from workload.record.results import Row

ACTIVITY_COLOURS: dict[Activity, str] = {
    "generation_only": COLOURS[0],
    "both": COLOURS[2],
    "retrieval_only": COLOURS[1],
    "neither": PALE,
}
ROW_INCHES = 0.26


def draw_resources(load: MeasuredLoad, summary: PipelineLoad, footer: str, path: Path) -> Path:
    """Draw busy shares, activities and the prefetch bound of a load; `summary` is its part of the summary."""
    busy = summary["resources"]["engine"]["busy"]["share"]
    retrieval = summary["resources"]["retrieval"]["busy"]["share"]
    title = f"The engine is busy {percent(busy)} of the time, retrieval {percent(retrieval)}"
    rows = _shares(load, summary)
    useless = [source for source, row in summary["prefetch"]["sources"].items() if not row["ceiling_seconds"]]
    drafts = len(summary["prefetch"]["sources"])
    if 0 < len(useless) < drafts:
        footer = f"drafts that can save no time: {', '.join(useless)}\n{footer}"
        drafts -= len(useless)
    is_measured = any(not isinstance(row["accuracy"], str) for row in summary["prefetch"]["sources"].values())
    if not is_measured:
        footer = f"{_unmeasured(summary)}\n{footer}"
    heights = (0.7 + ROW_INCHES * len(rows), 1.5, *([0.9 + ROW_INCHES * drafts] if is_measured else []))
    canvas, (shares, activities, *rest) = sheet(title, footer, heights, share_x=False)
    _draw_shares(shares, rows, summary)
    _draw_activities(activities, summary)
    for prefetch in rest:
        draw_prefetch(prefetch, summary)
    return save(canvas, path)


def _unmeasured(summary: PipelineLoad) -> str:
    """Return what a panel without a measured P would show."""
    most = max((row["ceiling_seconds"] for row in summary["prefetch"]["sources"].values()), default=0.0)
    return f"prefetch would save at most {number(most)} s if every draft were right; P not measured"


def _shares(load: MeasuredLoad, summary: PipelineLoad) -> list[tuple[str, float | None, list[float], str]]:
    """Return a row per source: label, share of the load, share of each question, and a note."""
    server, gauge = summary["server"], summary["gauge"]
    engine = _by_question(load, load.calls)
    rows: list[tuple[str, float | None, list[float], str]] = [
        ("engine: call spans", server["spans_busy_share"], engine, "exact to the ms")
    ]
    if len(load.workers) == 1:
        rows.append(("engine: server's latencies", server["server_requests_in_flight"], [], "exact as a sum"))
    every = f"every {number(gauge['resolution_seconds'])} s"
    rows += [
        ("engine: gauge of running requests", gauge["share"], [], f"{every}, misses prefill"),
        (
            "retrieval: stage spans",
            summary["resources"]["retrieval"]["busy"]["share"],
            _by_question(load, load.stages),
            "",
        ),
    ]
    for stage, row in summary["stages"].items():
        own = [found for found in load.stages if found["stage"] == stage]
        note = f"median {1000 * row['median_seconds']:.1f} ms"
        rows.append((f"... {stage}", row["share_of_load"], _by_question(load, own), note))
    gpu = summary["resources"]["gpu"]
    if isinstance(gpu, str):
        rows.append(("GPU", None, [], gpu.partition(":")[0].upper()))
    else:
        rows += [(f"GPU {index}: driver's samples", row["busy_share"], [], "duty cycle") for index, row in gpu.items()]
    return rows


def _by_question(load: MeasuredLoad, rows: Sequence[Row]) -> list[float]:
    """Return the share of each answered question's time that its own calls or stages took."""
    return [
        sum(row["duration_seconds"] for row in rows if row["question"] == question["id"]) / question["duration_seconds"]
        for question in load.questions
        if question["outcome"] == "ok" and question["duration_seconds"]
    ]


def _draw_shares(axes: Axes, rows: Sequence[tuple[str, float | None, list[float], str]], summary: PipelineLoad) -> None:
    for place, (label, share, questions, note) in enumerate(rows):
        colour = COLOURS[1] if label.startswith(("retrieval", "...")) else COLOURS[0]
        axes.plot(questions, [place] * len(questions), "o", color=colour, markersize=4, alpha=0.4, markeredgewidth=0)
        if share is not None:
            axes.plot(share, place, "D", color=DARK, markersize=5)
        text = "; ".join(part for part in (percent(share) if share is not None else "", note) if part)
        axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    name(
        axes,
        f"Busy share of {summary['seconds']:.1f} s, workers: {summary['workers']}; "
        f"dots: {summary['questions']} questions",
        x="share of time",
    )


def _draw_activities(axes: Axes, summary: PipelineLoad) -> None:
    both = summary["busy_seconds_total"]
    sources = {"spans": both["spans"], "hop2rag_busy_seconds_total": both["counter"] or {}}
    for place, seconds in enumerate(sources.values()):
        left = 0.0
        for activity, colour in ACTIVITY_COLOURS.items():
            length = seconds.get(activity, 0.0)
            label = f"{activity.replace('_', ' ')} {percent(summary['activities'][activity])}" if place == 0 else None
            axes.barh(place, length, left=left, color=colour, edgecolor=GREY, linewidth=0.4, label=label)
            left += length
    axes.set_yticks(range(len(sources)), list(sources), fontsize=8)
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.42), ncols=4, frameon=False, fontsize=8)
    agree = {True: "they agree within 1 %", False: "they DISAGREE", None: "the counter was not scraped"}
    name(axes, f"What ran, by two sources: {agree[both['within_1_percent']]}", x="seconds")


def draw_prefetch(axes: Axes, summary: PipelineLoad) -> None:
    """Draw the ceiling of each source of drafts that can save time, and the bound where P was measured."""
    prefetch = summary["prefetch"]
    found = prefetch["sources"]
    sources = {source: row for source, row in found.items() if row["ceiling_seconds"]} or found
    for place, row in enumerate(sources.values()):
        axes.plot(row["ceiling_seconds"], place, "o", color=GREY, markerfacecolor="white", markersize=6)
        note = f"P {str(row['accuracy']).partition(':')[0]}"
        if (bound := row["bound"]) and not isinstance(accuracy := row["accuracy"], str):
            ends = [bound["low"]["seconds"], bound["high"]["seconds"]]
            axes.plot(ends, [place, place], color=COLOURS[0], linewidth=4, alpha=0.5, solid_capstyle="butt")
            axes.plot(bound["measured"]["seconds"], place, "D", color=DARK, markersize=5)
            note = f"P = {accuracy['right']} of {accuracy['hops']}, {speedup(bound['measured']['speedup'])}"
        axes.annotate(note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.set_yticks(range(len(sources)), [f"draft: {source}" for source in sources], fontsize=8)
    axes.set_ylim(len(sources) - 0.4, -0.6)
    name(
        axes,
        "Prefetch: hollow if every draft were right, filled at the measured P",
        x="seconds saved over the load, with the 95 % interval of P (below 0: lost)",
    )
