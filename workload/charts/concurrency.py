"""Pictures of the load levels: throughput and efficiency, latency percentiles, and what the engine holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter, ScalarFormatter

from workload.analysis.rate import note
from workload.analysis.wording import number, percent
from workload.charts.canvas import name, save, sheet
from workload.charts.marks import Mark, draw_marks
from workload.charts.time_series import COLOURS
from workload.panels.concurrency import ALL
from workload.statistics.throughput import CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.charts.drawing import Drawing
    from workload.record.results import Row

MIB, GIB = 2**20, 2**30
CONCURRENCY = "questions at a time (closed loop)"
RATE = "questions a second, asked (open loop, Poisson)"


def draw(drawing: Drawing) -> list[Path]:
    """Draw the three files of the plan, and keep the data of every panel."""
    for panel in ALL:
        drawing.traces(panel)
    return [draw_throughput(drawing), draw_latency(drawing), draw_memory(drawing)]


def draw_throughput(drawing: Drawing) -> Path:
    """Draw successes a second and efficiency against concurrency, with what each arm would reach ideally."""
    rows = [row for row in _closed(drawing) if row["throughput"]["per_second"] is not None]
    title = "What does higher concurrency gain?"
    if rows:
        best = max(rows, key=lambda row: row["throughput"]["per_second"])
        rate = number(best["throughput"]["per_second"])
        title = f"{rate} questions a second at the most, with {best['concurrency']} at a time ({best['arm']})"
    canvas, (upper, lower) = sheet(title, f"{drawing.footer}\nestimator: {CLOSED}", (3.3, 2.7))
    for place, arm in enumerate(drawing.arms):
        mine = [row for row in rows if row["arm"] == arm]
        alone = next((row["throughput"]["per_second"] for row in mine if row["concurrency"] == 1), None)
        if alone:
            levels = np.array([row["concurrency"] for row in mine])
            upper.plot(levels, levels * alone, color=COLOURS[place], linewidth=0.9, linestyle=(0, (1, 3)))
        if law := drawing.summary["scaling"][arm]["usl"]:
            n = np.linspace(1, max(row["concurrency"] for row in mine), 200)
            fitted = law["rate"] * n / (1 + law["contention"] * (n - 1) + law["coherence"] * n * (n - 1))
            upper.plot(n, fitted, color=COLOURS[place], linewidth=1, linestyle="--")
        whole = [(row["concurrency"], row["throughput"]["over_whole_run"]) for row in mine]
        upper.plot(*np.array(whole).reshape(-1, 2).T, "_", color=COLOURS[place], markersize=9)
    draw_marks(upper, _arms(drawing, rows, _throughput))
    draw_marks(lower, _arms(drawing, [row for row in rows if row["efficiency"]], _efficiency))
    lower.yaxis.set_major_formatter(PercentFormatter(1.0))
    name(
        upper,
        "Answers a second; bars: 95 %; dash: the whole run; dashed: the law; dotted: one's x concurrency",
        y="questions / s",
    )
    name(lower, "Efficiency: throughput over concurrency x the throughput of one", x=CONCURRENCY, y="efficiency")
    level_axis(lower, [row["concurrency"] for row in rows])
    return save(canvas, drawing.folder / "throughput_vs_concurrency.png")


def draw_latency(drawing: Drawing) -> Path:
    """Draw the percentiles of the answered questions; a percentile without an interval is hollow and says why."""
    rows = [row for row in _closed(drawing) if row["latency_seconds"]]
    opened = [row for row in drawing.summary["levels"] if row["loop"] == "open" and row["latency_seconds"]]
    canvas, panels = sheet(
        _latency_title(rows), drawing.footer, (2.4, 2.4, 2.4, *((2.4,) if opened else ())), share_x=False
    )
    for index, p in enumerate((50, 95, 99)):
        told = [row for row in rows if row["latency_seconds"][index]["value"] is not None]
        draw_marks(panels[index], _arms(drawing, told, partial(_percentile, x="concurrency", index=index)))
        if not told:
            panels[index].annotate("too few questions at every level", (0.02, 0.5), xycoords="axes fraction")
        name(panels[index], f"P{p} of a question's time; bars: 95 %; hollow: too few for an interval", y="seconds")
        level_axis(panels[index], [row["concurrency"] for row in rows])
        if rows:
            panels[index].set_xlim(panels[0].get_xlim())
    panels[2].set_xlabel(CONCURRENCY)
    if opened:
        draw_marks(panels[3], _arms(drawing, opened, partial(_percentile, x="rate", index=0)))
        panels[3].set_xlim(left=0)
        name(panels[3], "P50 in the open loop, from the instant a question was to be sent", x=RATE, y="seconds")
    return save(canvas, drawing.folder / "latency_vs_concurrency.png")


def _latency_title(rows: Sequence[Row]) -> str:
    if not rows:
        return "No question was answered"
    most = max(row["concurrency"] for row in rows)
    last = max((row for row in rows if row["concurrency"] == most), key=lambda row: row["latency_seconds"][0]["value"])
    first = min((row for row in rows if row["arm"] == last["arm"]), key=lambda row: row["concurrency"])
    before, after = (number(row["latency_seconds"][0]["value"]) for row in (first, last))
    few = f"{before} s with {first['concurrency']} at a time"
    return f"Half of the questions take up to {few}, {after} s with {most} ({last['arm']})"


def draw_memory(drawing: Drawing) -> Path:
    """Draw the peaks of the KV pool and of memory, of calls in the engine, and the preemptions of each level."""
    rows = _closed(drawing)
    is_gpu = any(row["engine"]["device_bytes_peak"] for row in rows)
    peaks = [row["engine"]["kv_usage_peak"] for row in rows if row["engine"]["kv_usage_peak"] is not None]
    title = f"The KV pool is filled to {percent(max(peaks))} at the most" if peaks else "What does the engine hold?"
    canvas, panels = sheet(title, drawing.footer, (2.0, 2.0, 2.0, 2.0, 1.7))
    for axes, key, unit in zip(
        panels,
        (
            "kv_bytes_peak",
            "device_bytes_peak" if is_gpu else "resident_bytes_peak",
            "running_peak",
            "waiting_peak",
            "preemptions",
        ),
        (MIB, GIB, 1, 1, 1),
        strict=True,
    ):
        seen = [row for row in rows if row["engine"][key] is not None]
        draw_marks(axes, _arms(drawing, seen, partial(_peak, key=key, unit=unit)))
    memory = (
        "Device memory, peak (every 10 ms)" if is_gpu else "NO GPU: resident memory of the engine's processes, peak"
    )
    name(panels[0], "KV pool in use, peak (scraped every 100 ms)", y="MiB")
    name(panels[1], memory, y="GiB")
    name(panels[2], "Calls in the engine's batch, peak (as of its last step)", y="calls")
    name(panels[3], "Calls in the engine's queue, peak", y="calls")
    name(panels[4], "Preemptions in the window", x=CONCURRENCY, y="count")
    for axes in panels[2:]:
        axes.set_ylim(top=max(axes.get_ylim()[1], 1.2))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    level_axis(panels[4], [row["concurrency"] for row in rows])
    return save(canvas, drawing.folder / "memory_vs_concurrency.png")


def _arms(drawing: Drawing, rows: Sequence[Row], mark: Callable[[Row], Mark]) -> list[tuple[str, list[Mark]]]:
    return [(arm, [mark(row) for row in rows if row["arm"] == arm]) for arm in drawing.arms]


def _throughput(row: Row) -> Mark:
    done = row["throughput"]
    return Mark(row["concurrency"], done["per_second"], done["ci"], note(done))


def _efficiency(row: Row) -> Mark:
    found = row["efficiency"]
    alone = row["concurrency"] == 1
    note = "1 by definition" if alone else _note({"ci": found["ci"], "n": found["requests"]})
    return Mark(row["concurrency"], found["efficiency"], found["ci"], note)


def _percentile(row: Row, x: str, index: int) -> Mark:
    found = row["latency_seconds"][index]
    return Mark(row[x], found["value"], found["ci"], _note(found))


def _peak(row: Row, key: str, unit: int) -> Mark:
    return Mark(row["concurrency"], row["engine"][key] / unit)


def _note(found: dict[str, Any]) -> str:
    return f"n={found['n']}" if found["ci"] else f"n={found['n']}, no CI"


def _closed(drawing: Drawing) -> list[Row]:
    return [row for row in drawing.summary["levels"] if row["loop"] == "closed"]


def level_axis(axes: Axes, levels: Sequence[int]) -> None:
    """Put a tick at each concurrency, on an axis on which doubling is a step."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(levels))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
