"""Pictures of the pipeline: what ran when. `utilization` draws how busy each resource was."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from workload.analysis.spans import MeasuredLoad, measured_loads
from workload.analysis.wording import number, percent
from workload.charts.canvas import DARK, duration, name, save, sheet
from workload.charts.utilization import draw_resources
from workload.panels.colours import NODE_COLOURS
from workload.panels.pipeline import PANELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.summaries import PipelineLoad, PipelineSummary
    from workload.charts.drawing import Drawing
    from workload.record.results import Row

# The node `grade` reranks; `retrieve` embeds and searches, which lightness distinguishes.
STAGE_COLOURS = {"embed": NODE_COLOURS["retrieve"], "search": "#8A5A00", "rerank": NODE_COLOURS["grade"]}
STEP_COLOURS = {**STAGE_COLOURS, **NODE_COLOURS}
STEPS = ("decompose", "embed", "search", "rerank", "extract_clues", "decide", "generate")
ROW_INCHES = 0.26
LANE = 0.4
AROUND_SECONDS = 0.05


def draw(drawing: Drawing[PipelineSummary]) -> list[Path]:
    """Draw the pictures of the load with the most questions; the JSON holds every load."""
    loads = measured_loads(drawing.data)
    if not loads:
        return []
    shown = max(range(len(loads)), key=lambda place: len(loads[place].questions))
    for panel in PANELS:
        drawing.traces(panel)  # left in the bundle as CSV, with the PromQL that a dashboard asks
    window = loads[shown].window
    footer = drawing.footer
    if len(loads) > 1:
        footer += f"\nshown: {window.point}, segment {window.segment}, of {len(loads)} loads"
    summary = drawing.summary["loads"][shown]
    return [
        _gantt(loads[shown], summary, footer, drawing.folder / "timeline_gantt.png"),
        draw_resources(loads[shown], summary, footer, drawing.folder / "resource_utilization.png"),
    ]


def _gantt(load: MeasuredLoad, summary: PipelineLoad, footer: str, path: Path) -> Path:
    answered = sorted(
        (row for row in load.questions if row["outcome"] == "ok"), key=lambda row: row["duration_seconds"]
    )
    typical = answered[len(answered) // 2] if answered else load.questions[0]
    steps = _steps(load, typical["id"])
    title = (
        f"Retrieval and generation overlapped for {percent(summary['activities']['both'])} of the time; "
        "within a question each step waits for the previous one"
    )
    heights = (0.9 + 2 * ROW_INCHES * len(load.workers), 0.9 + ROW_INCHES * len(STEPS), 1.7)
    canvas, (workers, question, retrieval) = sheet(title, footer, heights, share_x=False)
    _workers(workers, load)
    _question(question, typical, steps)
    _retrieval(retrieval, steps)
    return save(canvas, path)


def _steps(load: MeasuredLoad, question: int) -> list[tuple[str, float, float]]:
    """Return the calls and stages of a question in order: name, start (s since the epoch) and length in seconds."""
    rows = [
        *(
            (row["node"], row["started_at"], row["duration_seconds"])
            for row in load.calls
            if row["question"] == question
        ),
        *(
            (row["stage"], row["started_at"], row["duration_seconds"])
            for row in load.stages
            if row["question"] == question
        ),
    ]
    return sorted(rows, key=lambda row: row[1])


def _workers(axes: Axes, load: MeasuredLoad) -> None:
    origin = load.interval[0]
    labels = []
    for place, worker in enumerate(load.workers):
        for lane, rows, column in ((0, load.calls, "node"), (1, load.stages, "stage")):
            own = [row for row in rows if row["worker"] == worker]
            _bars(axes, own, column, origin, 2 * place + lane)
        starts = [row["started_at"] - origin for row in load.questions if row["worker"] == worker]
        axes.vlines(starts, 2 * place - 0.5, 2 * place + 1.5, color=DARK, linewidth=1, linestyle=":")
        labels += [f"worker {worker}: LLM calls", "retrieval"]
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, load.seconds)
    for step in ("decompose", "extract_clues", "decide", "generate", "embed", "search", "rerank"):
        axes.plot([], [], "s", color=STEP_COLOURS[step], label=step)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.28 - 0.2 / len(load.workers)), ncols=7, frameon=False, fontsize=8
    )
    name(axes, f"All {len(load.questions)} questions; dotted: a question begins", x="seconds since the first question")


def _bars(axes: Axes, rows: Iterable[Row], column: str, origin: float, place: float) -> None:
    for row in rows:
        span = [(row["started_at"] - origin, row["duration_seconds"])]
        # An edge keeps a step of a millisecond visible.
        axes.broken_barh(span, (place - LANE, 2 * LANE), color=STEP_COLOURS[row[column]], linewidth=0.6)


def _question(axes: Axes, row: Row, steps: Sequence[tuple[str, float, float]]) -> None:
    for step, start, seconds in steps:
        place = STEPS.index(step)
        axes.broken_barh([(start - row["started_at"], seconds)], (place - LANE, 2 * LANE), color=STEP_COLOURS[step])
    for place, step in enumerate(STEPS):
        total = sum(seconds for found, _, seconds in steps if found == step)
        axes.annotate(duration(total), (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(STEPS)), STEPS, fontsize=8)
    axes.set_ylim(len(STEPS) - 0.4, -0.6)
    axes.set_xlim(0, row["duration_seconds"] or 1)
    name(
        axes,
        f"The question of median length ({row['hops']} hops, {number(row['duration_seconds'])} s)",
        x="seconds since it began",
    )


def _retrieval(axes: Axes, steps: Sequence[tuple[str, float, float]]) -> None:
    """Draw one retrieval of the question to the millisecond, with the calls before and after it."""
    embeds = [(start, seconds) for step, start, seconds in steps if step == "embed"]
    if not embeds:
        name(axes, "This question had no retrieval")
        axes.set_axis_off()
        return
    middle = median(seconds for _, seconds in embeds)
    begin = min(embeds, key=lambda found: abs(found[1] - middle))[0]
    later = [start for step, start, _ in steps if start > begin and step in NODE_COLOURS]
    end = min(later, default=begin + 0.1)
    for step, start, seconds in steps:
        if start < end + AROUND_SECONDS and start + seconds > begin - AROUND_SECONDS:
            axes.broken_barh([(1000 * (start - begin), 1000 * seconds)], (-LANE, 2 * LANE), color=STEP_COLOURS[step])
            if step in STAGE_COLOURS:
                place = list(STAGE_COLOURS).index(step)
                text = f"{step} {1000 * seconds:.1f} ms"
                at = 1000 * (start + seconds / 2 - begin)
                axes.annotate(
                    text, (at, -LANE), (0, -12 - 12 * place), textcoords="offset points", ha="center", fontsize=8
                )
    axes.set_ylim(-1.9, 0.6)
    axes.set_yticks([])
    axes.set_xlim(-1000 * AROUND_SECONDS, 1000 * (end - begin + AROUND_SECONDS))
    name(
        axes,
        "One retrieval: left, the call that wrote the query; right, the call that reads the result",
        x="milliseconds",
    )
