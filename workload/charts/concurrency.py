"""Pictures of the load levels: throughput and efficiency, latency percentiles, and what the engine holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter, ScalarFormatter

from workload.analysis.wording import number, percent
from workload.charts.canvas import DARK, MARKERS, name, save, sheet
from workload.figures import COLOURS
from workload.panels.concurrency import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.drawing import Drawing
    from workload.results import Row

MIB = 2**20
CONCURRENCY = "questions at a time (closed loop)"
RATE = "questions a second, asked (open loop, Poisson)"


def draw(drawing: Drawing) -> list[Path]:
    """Draw the three files of the plan, and keep the data of every panel."""
    for panel in ALL:
        drawing.traces(panel)
    return [draw_throughput(drawing), draw_latency(drawing), draw_memory(drawing)]


def draw_throughput(drawing: Drawing) -> Path:
    """Draw successes a second and efficiency against concurrency, with what each arm would reach ideally."""
    rows = _closed(drawing)
    title = "What do more questions at a time bring?"
    known = [row for row in rows if row["throughput"]]
    if known:
        best = max(known, key=lambda row: row["throughput"]["per_second"])
        title = f"{number(best['throughput']['per_second'])} questions a second at the most: {_name(best)}"
    canvas, (upper, lower) = sheet(title, drawing.footer, (3.2, 2.5))
    for place, arm in enumerate(drawing.arms):
        mine = [row for row in known if row["arm"] == arm]
        _line(upper, place, arm, mine, lambda row: row["throughput"]["per_second"], lambda row: row["throughput"]["ci"])
        alone = next((row["throughput"]["per_second"] for row in mine if row["concurrency"] == 1), None)
        if alone:
            levels = np.array([row["concurrency"] for row in mine])
            upper.plot(levels, levels * alone, color=COLOURS[place], linewidth=0.8, linestyle=(0, (1, 3)))
        _law(upper, place, drawing.summary["scaling"][arm]["usl"], mine)
        efficient = [row for row in mine if row["efficiency"]]
        _line(
            lower,
            place,
            arm,
            efficient,
            lambda row: row["efficiency"]["efficiency"],
            lambda row: row["efficiency"]["ci"],
        )
    lower.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (upper, lower):
        axes.set_ylim(bottom=0)
    name(
        upper,
        "Questions answered a second, 95 % intervals; dotted: concurrency x the throughput of one",
        y="per second",
    )
    name(lower, "Efficiency: throughput over concurrency x the throughput of one", x=CONCURRENCY, y="efficiency")
    _levels(lower, rows)
    return save(canvas, drawing.folder / "throughput_vs_concurrency.png")


def _law(axes: Axes, place: int, law: dict[str, Any] | None, rows: Sequence[Row]) -> None:
    if law is None:
        return
    n = np.linspace(1, max(row["concurrency"] for row in rows), 200)
    fitted = law["rate"] * n / (1 + law["contention"] * (n - 1) + law["coherence"] * n * (n - 1))
    axes.plot(n, fitted, color=COLOURS[place], linewidth=1, linestyle="--")


def draw_latency(drawing: Drawing) -> Path:
    """Draw the percentiles of the answered questions; a percentile without an interval is hollow and says why."""
    rows = _closed(drawing)
    opened = [row for row in drawing.summary["levels"] if row["loop"] == "open" and row["latency_seconds"]]
    title = "How long does a question take under load?"
    worst = [row for row in rows if row["latency_seconds"]]
    if worst:
        alone, last = worst[0], max(worst, key=lambda row: row["latency_seconds"][0]["value"])
        first, slow = (number(row["latency_seconds"][0]["value"]) for row in (alone, last))
        title = f"Half of the questions take up to {first} s with {_name(alone)}, {slow} s with {_name(last)}"
    heights = (2.2, 2.2, 2.2, *((2.6,) if opened else ()))
    canvas, panels = sheet(title, drawing.footer, heights, share_x=False)
    for index, p in enumerate((50, 95, 99)):
        axes = panels[index]
        for place, arm in enumerate(drawing.arms):
            mine = [row for row in rows if row["arm"] == arm and row["latency_seconds"]]
            _percentiles(axes, place, arm, mine, index, "concurrency")
        axes.set_ylim(bottom=0)
        name(axes, f"P{p} of a question's time, 95 % intervals; hollow: no CI", y="seconds")
        _levels(axes, rows)
    panels[2].set_xlabel(CONCURRENCY)
    if opened:
        _open_loop(panels[3], drawing.arms, opened)
    return save(canvas, drawing.folder / "latency_vs_concurrency.png")


def _open_loop(axes: Axes, arms: Sequence[str], rows: Sequence[Row]) -> None:
    for place, arm in enumerate(arms):
        _percentiles(axes, place, arm, [row for row in rows if row["arm"] == arm], 0, "rate")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    name(axes, "P50 in the open loop, from the instant a question was to be sent", x=RATE, y="seconds")


def draw_memory(drawing: Drawing) -> Path:
    """Draw the peaks of the KV pool and of memory, of calls in the engine, and the preemptions of each level."""
    rows = _closed(drawing)
    is_gpu = any(row["engine"]["device_bytes_peak"] for row in rows)
    memory = "device_bytes_peak" if is_gpu else "resident_bytes_peak"
    peaks = [row["engine"]["kv_usage_peak"] for row in rows if row["engine"]["kv_usage_peak"] is not None]
    title = f"The KV pool is filled to {percent(max(peaks))} at the most" if peaks else "What does the engine hold?"
    canvas, panels = sheet(title, drawing.footer, (2.1, 2.1, 2.1, 1.7))
    place_of = {arm: place for place, arm in enumerate(drawing.arms)}
    for arm, place in place_of.items():
        mine = [row for row in rows if row["arm"] == arm]
        for axes, key, unit in (
            (panels[0], "kv_bytes_peak", MIB),
            (panels[1], memory, MIB),
            (panels[2], "running_peak", 1),
            (panels[3], "preemptions", 1),
        ):
            shown = [row for row in mine if row["engine"][key] is not None]
            _line(axes, place, arm, shown, partial(_in_engine, key=key, unit=unit))
        waiting = [row for row in mine if row["engine"]["waiting_peak"] is not None]
        values = [row["engine"]["waiting_peak"] for row in waiting]
        panels[2].plot([row["concurrency"] for row in waiting], values, color=COLOURS[place], linestyle=":")
    kind = "Device memory, peak (every 10 ms)" if is_gpu else "NO GPU: resident memory of the engine's processes, peak"
    name(panels[0], "KV pool in use, peak (scraped every 100 ms)", y="MiB")
    name(panels[1], kind, y="MiB")
    name(panels[2], "Calls in the engine's batch, peak; dotted: in its queue", y="calls")
    name(panels[3], "Preemptions in the window", x=CONCURRENCY, y="count")
    for axes in panels:
        axes.set_ylim(bottom=0)
    for axes in panels[2:]:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set_ylim(top=max(axes.get_ylim()[1], 1.2))
    _levels(panels[3], rows)
    return save(canvas, drawing.folder / "memory_vs_concurrency.png")


def _closed(drawing: Drawing) -> list[Row]:
    return [row for row in drawing.summary["levels"] if row["loop"] == "closed"]


def _in_engine(row: Row, key: str, unit: int) -> float:
    return float(row["engine"][key] / unit)


def _name(row: Row) -> str:
    return f"{row['concurrency']} at a time ({row['arm']})"


def _levels(axes: Axes, rows: Sequence[Row]) -> None:
    """Put a tick at each level, on an axis on which doubling is a step."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted({row["concurrency"] for row in rows})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _line(
    axes: Axes,
    place: int,
    arm: str,
    rows: Sequence[Row],
    value: Callable[[Row], float],
    interval: Callable[[Row], Any] = lambda _: None,
) -> None:
    """Draw an arm's values with their intervals, and its name at the end of its line."""
    if not rows:
        return
    levels, values = [row["concurrency"] for row in rows], [value(row) for row in rows]
    axes.plot(levels, values, color=COLOURS[place], marker=MARKERS[place], markersize=6, linewidth=1.4)
    for level, row in zip(levels, rows, strict=True):
        if ci := interval(row):
            axes.plot([level, level], ci, color=COLOURS[place], linewidth=1.2)
    _label(axes, place, arm, levels[-1], values[-1])


def _percentiles(axes: Axes, place: int, arm: str, rows: Sequence[Row], index: int, x: str) -> None:
    if not rows:
        return
    found = [row["latency_seconds"][index] for row in rows]
    levels, values = [row[x] for row in rows], [row["value"] for row in found]
    axes.plot(levels, values, color=COLOURS[place], linewidth=1, alpha=0.6)
    for level, row in zip(levels, found, strict=True):
        if row["ci"]:
            axes.plot([level, level], row["ci"], color=COLOURS[place], linewidth=1.2)
        fill = COLOURS[place] if row["ci"] else "white"
        axes.plot(level, row["value"], MARKERS[place], color=COLOURS[place], markerfacecolor=fill, markersize=6)
        note = f"n={row['n']}" if row["ci"] else f"n={row['n']}, no CI"
        below = (0, -13) if place else (0, 7)
        axes.annotate(
            note, (level, row["value"]), below, textcoords="offset points", ha="center", fontsize=7, color=DARK
        )
    _label(axes, place, arm, levels[-1], values[-1])
    axes.margins(y=0.2)


def _label(axes: Axes, place: int, text: str, x: float, y: float) -> None:
    offset = (8, 4 if place == 0 else -10)
    axes.annotate(text, (x, y), offset, textcoords="offset points", fontsize=9, color=DARK, fontweight="bold")
