"""Pictures of memory: over time with the activity of nodes, by node, and by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workload.agent.state import NODES
from workload.analysis.memory import Peak, blind_stretches, fragmentation, where_of
from workload.analysis.memory_observed import ObservedMemory, observe_memory
from workload.analysis.spans import measured_loads
from workload.analysis.wording import in_ms, number, percent, size
from workload.charts.canvas import DARK, PALE, name, save, sheet
from workload.charts.memory_ranges import GIB, MIB, draw_nodes, draw_phases
from workload.panels.colours import COLOURS, NODE_COLOURS
from workload.panels.gpu_memory import PANELS
from workload.record.results import calls_with_usage, evidence_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.summaries import GpuMemorySummary, MemoryLoad
    from workload.analysis.time_series import TimeSeries
    from workload.charts.drawing import Drawing

# Samples further apart than this multiple of the usual distance have gaps between them.
GAP = 2.5
SHOWN_NODES = tuple(node for node in NODES if node in NODE_COLOURS)
ROW_INCHES = 0.26


def draw(drawing: Drawing[GpuMemorySummary]) -> list[Path]:
    """Draw timeline, nodes and phases of the load with the most questions; the JSON has every load."""
    loads = measured_loads(drawing.data)
    if not loads:
        return []
    shown = max(range(len(loads)), key=lambda number: len(loads[number].questions))
    seen = observe_memory(evidence_of(drawing.data), loads[shown])
    summary = drawing.summary["loads"][shown]
    for panel in PANELS:
        drawing.traces(panel)  # left in the bundle as CSV, with the PromQL that a dashboard asks
    footer = "\n".join([drawing.footer, *_quality(seen, summary), *_others(len(loads), seen)])
    return [
        _timeline(seen, summary, footer, drawing.folder / "memory_timeline.png"),
        draw_nodes(summary, footer, drawing.folder / "memory_by_node.png"),
        draw_phases(summary, footer, drawing.folder / "memory_phases.png"),
    ]


def _quality(seen: ObservedMemory, summary: MemoryLoad) -> list[str]:
    """Return how the series were sampled."""
    lines = [
        f"GPU {gpu}: {row['samples']} samples, requested every {1000 * row['asked_seconds']:g} ms, "
        f"achieved {row['rate_hertz']:.1f} Hz; "
        f"gaps p50 {1000 * row['gap_p50_seconds']:.1f}, p99 {in_ms(row['gap_p99_seconds'])}, "
        f"longest {1000 * row['gap_max_seconds']:.1f} ms"
        for gpu, row in summary["sampling"].items()
    ]
    if not seen.device:
        lines = [
            (
                f"{seen.without_device.upper()}: resident memory of the engine's processes, every "
                f"{number(seen.resident.resolution_seconds)} s"
            )
        ]
    kv = f"KV pool: scraped every {number(seen.used.resolution_seconds)} s; vLLM updates it after an engine step"
    return [*lines, f"{kv}, so a call's blocks appear with its first token"]


def _others(count: int, seen: ObservedMemory) -> list[str]:
    window = seen.load.window
    return [f"shown: {window.point}, segment {window.segment}, of {count} loads"] if count > 1 else []


def _subject(seen: ObservedMemory) -> str:
    if not seen.device:
        return f"{seen.without_device.upper()}: resident memory of the engine's processes"
    named = zip(seen.device, seen.gpu_names, strict=True)
    gpus = ", ".join(f"GPU {gpu}" + (f" ({model})" if model else "") for gpu, model in named)
    return f"{'REPLAYED TRACE, not this run: ' if seen.backend == 'replay' else ''}{gpus}, memory in use"


def _timeline(seen: ObservedMemory, summary: MemoryLoad, footer: str, path: Path) -> Path:
    top = summary["kv"]["peak"]
    title = "The engine does not report how much of its KV pool is in use"
    if top:
        where = f", in {top['node']} of hop {top['hop']}" if top["node"] else ", with no single node active"
        title = f"The KV pool peaks at {size(top['value'])} after {top['seconds']:.1f} s{where}"
    rows = len(SHOWN_NODES) * ROW_INCHES + 0.5
    canvas, (memory, pool, holes, activity) = sheet(title, footer, (1.8, 1.8, 1.4, rows))
    origin = seen.load.interval[0]
    lines = seen.device or {"": seen.resident}
    for colour, (gpu, line) in zip(COLOURS, lines.items(), strict=False):
        _plot(memory, line, origin, GIB, colour)
        _mark(memory, summary["memory"][f"gpu {gpu}" if gpu else "engine process"]["peak"], GIB)
    values = "; ".join(
        f"{row['distinct']} values in {row['n']} samples, {size(row['max'] - row['min'])} apart"
        for row in summary["memory"].values()
        if row["n"]
    )
    name(memory, f"{_subject(seen)}: {values or 'no samples'}", y="GiB")
    _plot(pool, seen.used, origin, MIB, COLOURS[0])
    _mark(pool, top, MIB)
    name(
        pool,
        f"KV pool in use, of {size(summary['kv']['pool_bytes'])}; grey: prefill, unknown until its step ends",
        y="MiB",
    )
    _holes(holes, seen, summary)
    _activity(activity, seen)
    _prefills(pool, seen)
    for axes in (memory, pool):
        axes.set_ylim(0, 1.3 * axes.dataLim.y1 if axes.dataLim.y1 > 0 else 1)
    activity.set_xlim(0, seen.load.seconds)
    return save(canvas, path)


def _prefills(axes: Axes, seen: ObservedMemory) -> None:
    """Shade the instants at which the gauge is out of date: drawn as zeros they would look like a pause."""
    origin = seen.load.interval[0]
    for start, end in blind_stretches(seen.load.calls):
        axes.axvspan(start - origin, end - origin, color=PALE, linewidth=0, zorder=0)


def _plot(axes: Axes, line: TimeSeries, origin: float, unit: float, colour: str) -> None:
    # A line across missing samples would invent them.
    values, gaps = line.values / unit, np.flatnonzero(np.diff(line.times) > GAP * (line.resolution_seconds or np.inf))
    times = np.insert(line.times - origin, gaps + 1, line.times[gaps] - origin + (line.resolution_seconds or 0))
    axes.plot(times, np.insert(values, gaps + 1, np.nan), color=colour, linewidth=1.2, drawstyle="steps-post")


def _mark(axes: Axes, top: Peak | None, unit: float) -> None:
    if top:
        at = (top["seconds"], top["value"] / unit)
        axes.plot(*at, "v", color=DARK, markersize=6)
        late = top["seconds"] > 0.6 * axes.get_xlim()[1]
        axes.annotate(
            f"{size(top['value'])}: {where_of(top)}",
            at,
            (-8 if late else 8, 4),
            textcoords="offset points",
            ha="right" if late else "left",
            fontsize=8,
        )


def _holes(axes: Axes, seen: ObservedMemory, summary: MemoryLoad) -> None:
    row = summary["fragmentation"]
    engine = seen.load.measured.engine
    if row["n"]:
        calls = calls_with_usage(seen.load.calls)
        line, _ = fragmentation(seen.blocks, seen.generated, calls, engine["block_size"])
        axes.plot(line.times - seen.load.interval[0], 100 * line.values, ".", color=COLOURS[2], markersize=2.5)
        name(
            axes,
            f"Internal fragmentation: mean {percent(row['mean'])} of the slots in use (n={row['n']}; token counts "
            f"predict {percent(row['expected'])}); paged attention has no external fragmentation",
            y="% of slots",
        )
    else:
        name(axes, f"Internal fragmentation: {row.get('why', 'no instant at which a call ran')}", y="% of slots")
    axes.set_ylim(bottom=0)


def _activity(axes: Axes, seen: ObservedMemory) -> None:
    origin = seen.load.interval[0]
    alpha = 1.0 if len(seen.load.workers) == 1 else 0.6  # overlapping workers are darker
    for place, node in enumerate(SHOWN_NODES):
        spans = [
            (row["started_at"] - origin, row["duration_seconds"]) for row in seen.load.visits if row["node"] == node
        ]
        # An edge of half a point keeps a visit of a millisecond visible.
        axes.broken_barh(spans, (place - 0.35, 0.7), color=NODE_COLOURS[node], linewidth=0.5, alpha=alpha)
    axes.set_yticks(range(len(SHOWN_NODES)), SHOWN_NODES, fontsize=8)
    axes.invert_yaxis()
    questions = len(seen.load.questions)
    name(
        axes,
        f"Which node ran; questions: {questions}, workers: {len(seen.load.workers)}",
        x="seconds since the first question",
    )
