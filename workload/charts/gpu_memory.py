"""Pictures of memory: over time beside what the nodes did, by node, and by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workload.agent.state import NODES
from workload.analysis.memory import Line, fragmentation, size
from workload.analysis.spans import loads_of
from workload.analysis.wording import number, percent
from workload.charts.canvas import DARK, GREY, NODE_COLOURS, PALE, name, save, sheet
from workload.evidence import evidence_of
from workload.figures import COLOURS
from workload.observation import Observation, observe
from workload.panels.gpu_memory import PANELS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.drawing import Drawing

GIB, MIB = 2**30, 2**20
GAP = 2.5
PHASE_COLOURS = {"retrieval": COLOURS[1], "generation": COLOURS[0], "neither": GREY}
SHOWN_NODES = tuple(node for node in NODES if node in NODE_COLOURS)
ROW_INCHES = 0.26


def draw(drawing: Drawing) -> list[Path]:
    """Draw the three files of the plan for the load with the most questions; the JSON holds every load."""
    loads = loads_of(drawing.data)
    if not loads:
        return []
    shown = max(range(len(loads)), key=lambda number: len(loads[number].questions))
    seen = observe(evidence_of(drawing.data), loads[shown])
    told = drawing.summary["loads"][shown]
    for panel in PANELS:
        drawing.traces(panel)  # left in the bundle as CSV, with the PromQL that a dashboard asks
    footer = "\n".join([drawing.footer, *_quality(seen, told), *_others(len(loads), seen)])
    return [
        _timeline(seen, told, footer, drawing.folder / "memory_timeline.png"),
        _nodes(told, footer, drawing.folder / "memory_by_node.png"),
        _phases(told, footer, drawing.folder / "memory_phases.png"),
    ]


def _quality(seen: Observation, told: dict[str, Any]) -> list[str]:
    """Return what a reader must know of how the lines were sampled."""
    lines = [
        f"GPU {gpu}: {row['samples']} samples, every {1000 * row['asked_seconds']:g} ms asked, "
        f"{row['rate_hertz']:.1f} Hz achieved; "
        f"gaps p50 {1000 * row['gap_p50_seconds']:.1f}, p99 {1000 * row['gap_p99_seconds']:.1f}, "
        f"longest {1000 * row['gap_max_seconds']:.1f} ms"
        for gpu, row in told["sampling"].items()
    ]
    if not lines:
        lines = [
            f"NO GPU: resident memory of the engine's processes, every {number(seen.resident.resolution_seconds)} s"
        ]
    kv = f"KV pool: scraped every {number(seen.used.resolution_seconds)} s; vLLM publishes after an engine step"
    return [*lines, f"{kv}, so a call's blocks appear with its first token"]


def _others(count: int, seen: Observation) -> list[str]:
    window = seen.load.window
    return [f"shown: {window.point}, segment {window.segment}, of {count} loads"] if count > 1 else []


def _subject(seen: Observation) -> str:
    if not seen.device:
        return "NO GPU: resident memory of the engine's processes"
    return f"{'REPLAYED TRACE, not this run: ' if seen.backend == 'replay' else ''}memory in use on {seen.gpu_name}"


def _timeline(seen: Observation, told: dict[str, Any], footer: str, path: Path) -> Path:
    top = told["kv"]["peak"]
    title = "The engine does not tell how much of its KV pool is in use"
    if top:
        where = f", in {top['node']} of hop {top['hop']}" if top["node"] else ", with no single node active"
        title = f"The KV pool peaks at {size(top['value'])} after {top['seconds']:.1f} s{where}"
    rows = len(SHOWN_NODES) * ROW_INCHES + 0.5
    canvas, (memory, pool, holes, activity) = sheet(title, footer, (1.8, 1.8, 1.4, rows))
    origin = seen.load.interval[0]
    lines = seen.device or {"": seen.resident}
    for colour, (gpu, line) in zip(COLOURS, lines.items(), strict=False):
        _plot(memory, line, origin, GIB, colour)
        _mark(memory, told["memory"][f"gpu {gpu}" if gpu else "engine process"]["peak"], GIB)
    values = "; ".join(
        f"{row['distinct']} values in {row['n']} samples, {size(row['max'] - row['min'])} apart"
        for row in told["memory"].values()
        if row["n"]
    )
    name(memory, f"{_subject(seen)}: {values or 'not told'}", y="GiB")
    _plot(pool, seen.used, origin, MIB, COLOURS[0])
    _mark(pool, top, MIB)
    name(
        pool,
        f"KV pool in use, of {size(told['kv']['pool_bytes'])}; grey: prefill, not told until its step ends",
        y="MiB",
    )
    _holes(holes, seen, told)
    _activity(activity, seen)
    _prefills(pool, seen)
    for axes in (memory, pool):
        axes.set_ylim(0, 1.3 * axes.dataLim.y1 if axes.dataLim.y1 > 0 else 1)
    activity.set_xlim(0, seen.load.seconds)
    return save(canvas, path)


def _prefills(axes: Axes, seen: Observation) -> None:
    """Shade the instants at which the engine does not tell: drawn as zeros they would be a false pause."""
    origin = seen.load.interval[0]
    for call in seen.load.calls:
        start, seconds = call["started_at"] - origin, call["ttft_seconds"] or call["duration_seconds"]
        axes.axvspan(start, start + seconds, color=PALE, linewidth=0, zorder=0)


def _plot(axes: Axes, line: Line, origin: float, unit: float, colour: str) -> None:
    # a line across samples that are missing would invent them
    values, gaps = line.values / unit, np.flatnonzero(np.diff(line.times) > GAP * (line.resolution_seconds or np.inf))
    times = np.insert(line.times - origin, gaps + 1, line.times[gaps] - origin + (line.resolution_seconds or 0))
    axes.plot(times, np.insert(values, gaps + 1, np.nan), color=colour, linewidth=1.2, drawstyle="steps-post")


def _mark(axes: Axes, top: dict[str, Any] | None, unit: float) -> None:
    if top:
        at = (top["seconds"], top["value"] / unit)
        where = f"{top['node']}, hop {top['hop']}" if top["node"] else "no single node active"
        axes.plot(*at, "v", color=DARK, markersize=6)
        late = top["seconds"] > 0.6 * axes.get_xlim()[1]
        axes.annotate(
            f"{size(top['value'])}: {where}",
            at,
            (-8 if late else 8, 4),
            textcoords="offset points",
            ha="right" if late else "left",
            fontsize=8,
        )


def _holes(axes: Axes, seen: Observation, told: dict[str, Any]) -> None:
    row = told["fragmentation"]
    engine = seen.load.measured.engine
    if row["n"]:
        calls = [call for call in seen.load.calls if call["outcome"] == "ok"]
        line, _ = fragmentation(seen.blocks, seen.generated, calls, engine["block_size"])
        axes.plot(line.times - seen.load.interval[0], 100 * line.values, ".", color=COLOURS[2], markersize=2.5)
        name(
            axes,
            f"Internal fragmentation: mean {percent(row['mean'])} of the slots in use (n={row['n']}; token counts "
            f"predict {percent(row['expected'])}); paged attention leaves no external kind",
            y="% of slots",
        )
    else:
        name(axes, f"Internal fragmentation: {row.get('why', 'no instant at which a call ran')}", y="% of slots")
    axes.set_ylim(bottom=0)


def _activity(axes: Axes, seen: Observation) -> None:
    origin = seen.load.interval[0]
    for place, node in enumerate(SHOWN_NODES):
        spans = [
            (row["started_at"] - origin, row["duration_seconds"]) for row in seen.load.visits if row["node"] == node
        ]
        # an edge of half a point keeps a visit of a millisecond visible
        axes.broken_barh(spans, (place - 0.35, 0.7), color=NODE_COLOURS[node], linewidth=0.5)
    axes.set_yticks(range(len(SHOWN_NODES)), SHOWN_NODES, fontsize=8)
    axes.invert_yaxis()
    questions = len(seen.load.questions)
    name(
        axes,
        f"Which node ran; questions: {questions}, workers: {len(seen.load.workers)}",
        x="seconds since the first question",
    )


def _nodes(told: dict[str, Any], footer: str, path: Path) -> Path:
    nodes = told["nodes"]
    if isinstance(nodes, str):
        canvas, (axes,) = sheet("Memory is not attributed to nodes here", footer, (1.6,))
        axes.set_axis_off()
        text = f"{told['workers']} workers. {nodes}.\nRun with --concurrency 1 to see memory by node."
        axes.text(0.0, 0.6, text, fontsize=11, transform=axes.transAxes)
        return save(canvas, path)
    top = told["kv"]["peak"]
    title = f"{top['node']} holds the most KV cache: {size(top['value'])}" if top and top["node"] else "Memory by node"
    met = [node for node in NODES if any(node in found for found in nodes.values())]
    shown = [node for node in met if any(found.get(node, {"n": 0})["n"] for found in nodes.values())]
    unseen = ", ".join(node for node in met if node not in shown)
    if unseen:
        footer = f"too short to be sampled even once: {unseen}\n{footer}"
    canvas, panels = sheet(title, footer, [0.7 + ROW_INCHES * len(shown)] * len(nodes), share_x=False)
    for axes, (what, found) in zip(panels, nodes.items(), strict=True):
        rows = {node: found.get(node, {"n": 0}) for node in shown}
        _ranges(axes, rows, NODE_COLOURS, _unit(what))
        name(axes, f"{_label(what, told)} while each node ran: extremes, 5-95 %, median", x=_unit(what)[1])
    return save(canvas, path)


def _unit(what: str) -> tuple[float, str]:
    if what == "kv":
        return MIB, "MiB"
    return (0.01, "% of time") if what.endswith("utilization") else (GIB, "GiB")


def _label(what: str, told: dict[str, Any]) -> str:
    if what == "kv":
        return "KV pool in use"
    if what == "engine process":
        return "NO GPU: resident memory of the engine"
    kind = "duty cycle" if what.endswith("utilization") else "memory in use"
    return f"{'REPLAYED TRACE: ' if told['backend'] == 'replay' else ''}GPU {what.split()[1]} {kind}"


def _ranges(
    axes: Axes, rows: Mapping[str, dict[str, Any]], colours: Mapping[str, str], unit: tuple[float, str]
) -> None:
    """Draw a row for each spread, its number of samples at the right; what was not seen is said in words."""
    edge = 0.0
    for place, (label, row) in enumerate(rows.items()):
        if row["n"]:
            low, left, middle, right, high = (row[key] / unit[0] for key in ("min", "p5", "median", "p95", "max"))
            colour = colours.get(label, GREY)
            axes.plot([low, high], [place, place], color=colour, linewidth=1)
            axes.plot([left, right], [place, place], color=colour, linewidth=6, alpha=0.5, solid_capstyle="butt")
            axes.plot(middle, place, "|", color=DARK, markersize=12, markeredgewidth=2)
            note = f"median {middle:.4g} {unit[1]}, n={row['n']}"
            edge = max(edge, high)
        else:
            note = "too short to be sampled" if row.get("long_enough") == 0 or row.get("visits") else "not seen"
        axes.annotate(note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.05 * edge or 1)


def _phases(told: dict[str, Any], footer: str, path: Path) -> Path:
    phases = told["phases"]
    idle = told["engine_idle"]
    retrieval = percent(phases["retrieval"]["share"])
    title = f"The engine is idle {percent(idle['share'])} of the time; retrieval takes {retrieval}"
    whats = [what for what in phases["generation"] if isinstance(phases["generation"][what], dict)]
    canvas, panels = sheet(title, footer, [0.8, *[1.2] * len(whats), *[0.4] * (not told["sampling"])], share_x=False)
    _shares(panels[0], phases, told["seconds"], idle)
    for axes, what in zip(panels[1:], whats, strict=False):
        rows = {phase: row[what] for phase, row in phases.items()}
        if what == "kv":
            note = "; with no call in flight it holds nothing for anyone"
        else:
            gpu = what.split()[1]
            period = told["utilization_refresh_seconds"].get(gpu)
            note = (
                f"; renewed every {1000 * period:.0f} ms, so shorter phases show none"
                if period and what.endswith("n")
                else ""
            )
        _ranges(axes, rows, PHASE_COLOURS, _unit(what))
        name(axes, f"{_label(what, told)}{note}", x=_unit(what)[1])
    if not told["sampling"]:
        panels[-1].set_axis_off()
        panels[-1].text(0, 0.5, "NO GPU: there is no utilisation to show.", fontsize=10, transform=panels[-1].transAxes)
    return save(canvas, path)


def _shares(axes: Axes, phases: Mapping[str, dict[str, Any]], seconds: float, idle: dict[str, Any]) -> None:
    left = 0.0
    for phase, row in phases.items():
        axes.barh(0, row["seconds"], left=left, color=PHASE_COLOURS[phase], label=f"{phase} {percent(row['share'])}")
        left += row["seconds"]
    axes.set_yticks([])
    axes.set_xlim(0, max(seconds, left))
    axes.legend(loc="lower left", bbox_to_anchor=(0, -1.0), ncols=3, frameon=False, fontsize=8)
    name(
        axes,
        f"Seconds in each phase of {seconds:.1f} s; the engine paused {idle['count']} times, "
        f"at most {idle['longest_seconds']:.2f} s",
    )
