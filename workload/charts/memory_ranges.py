"""Pictures of memory by node and by phase: the spread of what was sampled while each ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from workload.agent.state import NODES
from workload.analysis.wording import percent, size
from workload.charts.canvas import DARK, GREY, name, save, sheet
from workload.panels.colours import COLOURS, NODE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.memory import Phase, Spread
    from workload.analysis.spans import Stretches
    from workload.analysis.summaries import MemoryLoad

GIB, MIB = 2**30, 2**20
PHASE_COLOURS = {"retrieval": COLOURS[1], "generation": COLOURS[0], "neither": GREY}
ROW_INCHES = 0.26
CONSTANT = 0.01


def draw_nodes(summary: MemoryLoad, footer: str, path: Path) -> Path:
    """Draw memory by node, or say why it is not attributed; `summary` is a load's part of the summary."""
    nodes = summary["nodes"]
    if isinstance(nodes, str):
        canvas, (axes,) = sheet("Memory is not attributed to nodes here", footer, (1.6,))
        axes.set_axis_off()
        text = f"{summary['workers']} workers. {nodes}.\nRun with --concurrency 1 to see memory by node."
        axes.text(0.0, 0.6, text, fontsize=11, transform=axes.transAxes)
        return save(canvas, path)
    top = summary["kv"]["peak"]
    title = f"{top['node']} uses the most KV cache: {size(top['value'])}" if top and top["node"] else "Memory by node"
    met = [node for node in NODES if any(node in found for found in nodes.values())]
    shown = [node for node in met if any(found.get(node, {"n": 0})["n"] for found in nodes.values())]
    unseen = ", ".join(node for node in met if node not in shown)
    if unseen:
        footer = f"too short for a single sample: {unseen}\n{footer}"
    flat = {what: words for what, found in nodes.items() if (words := _constant(what, found.values(), summary, "node"))}
    drawn = [what for what in nodes if what not in flat] or list(nodes)
    footer = "\n".join([*(words for what, words in flat.items() if what not in drawn), footer])
    canvas, panels = sheet(title, footer, [0.7 + ROW_INCHES * len(shown)] * len(drawn), share_x=False)
    for axes, what in zip(panels, drawn, strict=True):
        rows = {node: nodes[what].get(node, {"n": 0}) for node in shown}
        _ranges(axes, rows, NODE_COLOURS, _unit(what))
        name(axes, f"{_label(what, summary)} while each node ran: extremes, 5-95 %, median", x=_unit(what)[1])
    return save(canvas, path)


def _constant(what: str, found: Iterable[Spread], summary: MemoryLoad, row_of: str) -> str:
    """Return a sentence instead of a panel of equal rows, one per `row_of`: they differ by less than 1 %; else ""."""
    seen = [row for row in found if row["n"]]
    low, high = min((row["min"] for row in seen), default=0.0), max((row["max"] for row in seen), default=0.0)
    unit, word = _unit(what)
    is_equal = len(seen) > 1 and high - low < CONSTANT * high
    return (
        f"{_label(what, summary)}: {low / unit:.4g} to {high / unit:.4g} {word} in every {row_of}" if is_equal else ""
    )


def _unit(what: str) -> tuple[float, str]:
    if what == "kv":
        return MIB, "MiB"
    return (0.01, "% of time") if what.endswith("utilization") else (GIB, "GiB")


def _label(what: str, summary: MemoryLoad) -> str:
    if what == "kv":
        return "KV pool in use"
    if what == "engine process":
        return f"{summary['backend'].partition(':')[0].upper()}: resident memory of the engine"
    kind = "duty cycle" if what.endswith("utilization") else "memory in use"
    return f"{'REPLAYED TRACE: ' if summary['backend'] == 'replay' else ''}GPU {what.split()[1]} {kind}"


def _ranges(axes: Axes, rows: Mapping[str, Spread], colours: Mapping[str, str], unit: tuple[float, str]) -> None:
    """Draw a row per spread with its number of samples at the right; without samples it says why."""
    edge = 0.0
    for place, (label, row) in enumerate(rows.items()):
        if row["n"]:
            low, middle, high = row["min"] / unit[0], row["median"] / unit[0], row["max"] / unit[0]
            colour = colours.get(label, GREY)
            axes.plot([low, high], [place, place], color=colour, linewidth=1)
            if row["p5"] is not None and row["p95"] is not None:
                band = [row["p5"] / unit[0], row["p95"] / unit[0]]
                axes.plot(band, [place, place], color=colour, linewidth=6, alpha=0.5, solid_capstyle="butt")
            axes.plot(middle, place, "|", color=DARK, markersize=12, markeredgewidth=2)
            note = f"median {middle:.4g} {unit[1]}, n={row['n']}"
            edge = max(edge, high)
        else:
            note = "too short to be sampled" if row.get("long_enough") == 0 or row.get("visits") else "not seen"
        axes.annotate(note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.05 * edge or 1)


def draw_phases(summary: MemoryLoad, footer: str, path: Path) -> Path:
    """Draw time, memory and utilisation by phase; `summary` is a load's part of the summary."""
    phases = summary["phases"]
    idle = summary["engine_idle"]
    retrieval = percent(phases["retrieval"]["share"])
    title = f"The engine is idle {percent(idle['share'])} of the time; retrieval takes {retrieval}"
    lines = {phase: _lines(row) for phase, row in phases.items()}
    whats = [what for what in lines["generation"] if any(row[what]["n"] for row in lines.values())]
    flat = {
        what: words
        for what in whats
        if _unit(what)[0] == GIB
        and (words := _constant(what, [row[what] for row in lines.values()], summary, "phase that was sampled"))
    }
    whats = [what for what in whats if what not in flat]
    footer = "\n".join([*flat.values(), footer])
    canvas, panels = sheet(title, footer, [0.8, *[1.2] * len(whats), *[0.4] * (not summary["sampling"])], share_x=False)
    _shares(panels[0], phases, summary["seconds"], idle)
    for axes, what in zip(panels[1:], whats, strict=False):
        rows: dict[str, Spread] = {phase: row[what] for phase, row in lines.items()}
        if what == "kv":
            note = "; it is empty when no call is in flight"
        else:
            gpu = what.split()[1]
            period = summary["utilization_refresh_seconds"].get(gpu)
            note = (
                f"; updated every {1000 * period:.0f} ms, so shorter phases have no value"
                if period and what.endswith("n")
                else ""
            )
        _ranges(axes, rows, PHASE_COLOURS, _unit(what))
        name(axes, f"{_label(what, summary)}{note}", x=_unit(what)[1])
    if not summary["sampling"]:
        panels[-1].set_axis_off()
        panels[-1].text(0, 0.5, "NO GPU: there is no utilization to show.", fontsize=10, transform=panels[-1].transAxes)
    return save(canvas, path)


def _lines(phase: Stretches) -> dict[str, Spread]:
    """Return a phase's spreads by line, which lie next to its own numbers."""
    return {what: cast("Spread", value) for what, value in phase.items() if isinstance(value, dict)}


def _shares(axes: Axes, phases: Mapping[Phase, Stretches], seconds: float, idle: Stretches) -> None:
    left = 0.0
    for phase, row in phases.items():
        axes.barh(0, row["seconds"], left=left, color=PHASE_COLOURS[phase], label=f"{phase} {percent(row['share'])}")
        left += row["seconds"]
    axes.set_yticks([])
    axes.set_xlim(0, max(seconds, left))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.2), frameon=False, fontsize=8)
    name(
        axes,
        f"Seconds in each phase of {seconds:.1f} s; the engine paused {idle['count']} times, "
        f"at most {idle['longest_seconds']:.2f} s",
    )
