"""Pictures of the load levels: throughput and efficiency, latency percentiles, and the engine's memory and queue."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter, ScalarFormatter

from workload.analysis.rate import note
from workload.analysis.wording import number, percent
from workload.charts.canvas import GREY, legend, name, save, sheet
from workload.charts.marks import Mark, draw_marks
from workload.panels.colours import COLOURS
from workload.panels.concurrency import ALL
from workload.statistics.throughput import CLOSED
from workload.statistics.usl import throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.levels_observed import EngineExtremes, LevelRow
    from workload.analysis.summaries import ConcurrencySummary
    from workload.charts.drawing import Drawing

MIB, GIB = 2**20, 2**30
CONCURRENCY = "questions at a time (closed loop)"
RATE = "questions sent per second (open loop, Poisson)"


def draw(drawing: Drawing[ConcurrencySummary]) -> list[Path]:
    """Draw throughput, latency and memory against concurrency, and keep the data of every panel."""
    for panel in ALL:
        drawing.traces(panel)
    return [draw_throughput(drawing), draw_latency(drawing), draw_memory(drawing)]


def draw_throughput(drawing: Drawing[ConcurrencySummary]) -> Path:
    """Draw answers per second and efficiency against concurrency, with each arm's ideal and its fitted law."""
    rows = [row for row in _closed(drawing) if row["throughput"]["per_second"] is not None]
    title = "What does higher concurrency gain?"
    if rows:
        best = max(rows, key=lambda row: row["throughput"]["per_second"] or 0.0)
        rate = number(best["throughput"]["per_second"])
        title = f"At most {rate} questions per second, with {best['concurrency']} at a time ({best['arm']})"
    canvas, (upper, lower) = sheet(title, f"{drawing.footer}\nestimator: {CLOSED}", (3.3, 2.7))
    for place, arm in enumerate(drawing.arms):
        mine = [row for row in rows if row["arm"] == arm]
        levels = np.array([_at(row) for row in mine])
        alone = next((row["throughput"]["per_second"] for row in mine if _at(row) == 1), None)
        if alone:
            upper.plot(levels, levels * alone, color=COLOURS[place], linewidth=0.9, linestyle=(0, (1, 3)))
        if law := drawing.summary["scaling"][arm]["usl"]:
            n = np.linspace(1, max(levels), 200)
            upper.plot(n, throughput(law, n), color=COLOURS[place], linewidth=1, linestyle="--")
        whole = [row["throughput"]["over_whole_run"] for row in mine]
        upper.plot(levels, np.array(whole, dtype=np.float64), "_", color=COLOURS[place], markersize=9)
    draw_marks(upper, _arms(drawing, rows, _throughput))
    draw_marks(lower, _arms(drawing, rows, _efficiency))
    lower.yaxis.set_major_formatter(PercentFormatter(1.0))
    for line, text in (("--", _law(drawing, rows)), ((0, (1, 3)), "ideal: N x one at a time")):
        upper.plot([], [], color=GREY, linewidth=1, linestyle=line, label=text)
    upper.plot([], [], "_", color=GREY, markersize=9, label="mean of the whole run, with its ends")
    legend(upper)
    name(upper, "Answers per second; bars: 95 %", y="questions / s")
    name(lower, "Efficiency: throughput / (N x throughput of one at a time)", x=CONCURRENCY, y="efficiency")
    level_axis(lower, map(_at, rows))
    return save(canvas, drawing.folder / "throughput_vs_concurrency.png")


def _law(drawing: Drawing[ConcurrencySummary], rows: Sequence[LevelRow]) -> str:
    """Return the legend of the fitted law, which says where a law disagrees with the best level."""
    words = []
    for arm in drawing.arms:
        law = drawing.summary["scaling"][arm]["usl"]
        mine = [row for row in rows if row["arm"] == arm]
        if law and (peak := law["peak"]) and mine:
            best = _at(max(mine, key=lambda row: row["throughput"]["per_second"] or 0.0))
            words.append(f"N={peak:.0f} ({arm}" + (f", measured {best})" if peak < best else ")"))
    return "fitted law (USL)" + (f", peak at {', '.join(words)}" if words else "")


def draw_latency(drawing: Drawing[ConcurrencySummary]) -> Path:
    """Draw the latency percentiles of answered questions; a percentile without an interval is hollow and says why."""
    rows = [row for row in _closed(drawing) if row["latency_seconds"]]
    opened = [row for row in drawing.summary["levels"] if row["loop"] == "open" and row["latency_seconds"]]
    canvas, panels = sheet(
        _latency_title(rows), drawing.footer, (2.4, 2.4, 2.4, *((2.4,) if opened else ())), share_x=False
    )
    for index, p in enumerate((50, 95, 99)):
        marks = _arms(drawing, rows, partial(_percentile, index=index))
        draw_marks(panels[index], marks)
        if not any(found for _, found in marks):
            panels[index].annotate("too few questions at every level", (0.02, 0.5), xycoords="axes fraction")
        name(panels[index], f"P{p} of question latency; bars: 95 %; hollow: too few for an interval", y="seconds")
        level_axis(panels[index], map(_at, rows))
        if rows:
            panels[index].set_xlim(panels[0].get_xlim())
    panels[2].set_xlabel(CONCURRENCY)
    if opened:
        draw_marks(panels[3], _arms(drawing, opened, partial(_percentile, index=0)))
        panels[3].set_xlim(left=0)
        name(panels[3], "P50 in the open loop, from the instant a question was due", x=RATE, y="seconds")
    return save(canvas, drawing.folder / "latency_vs_concurrency.png")


def _latency_title(rows: Sequence[LevelRow]) -> str:
    if not rows:
        return "No question was answered"
    last = max(rows, key=lambda row: (_at(row), row["latency_seconds"][0]["value"]))
    first = min((row for row in rows if row["arm"] == last["arm"]), key=_at)
    before, after = (number(row["latency_seconds"][0]["value"]) for row in (first, last))
    few = f"{before} s with {_at(first)} at a time"
    return f"Half of the questions take up to {few}, {after} s with {_at(last)} ({last['arm']})"


def draw_memory(drawing: Drawing[ConcurrencySummary]) -> Path:
    """Draw the peaks of the KV pool, of memory and of calls in the engine, and the preemptions of each level."""
    rows = _closed(drawing)
    is_gpu = any(row["engine"]["device_bytes_peak"] for row in rows)
    peaks = [row["engine"]["kv_usage_peak"] for row in rows if row["engine"]["kv_usage_peak"] is not None]
    title = f"The KV pool is at most {percent(max(peaks))} full" if peaks else "What is in the engine?"
    memory = "Device memory, peak (every 10 ms)" if is_gpu else "NO GPU: resident memory of the engine's processes"
    quantities: tuple[tuple[str, str, Callable[[EngineExtremes], float | None], int], ...] = (
        ("KV pool in use, peak (scraped every 100 ms)", "MiB", lambda engine: engine["kv_bytes_peak"], MIB),
        (memory, "GiB", lambda engine: engine["device_bytes_peak" if is_gpu else "resident_bytes_peak"], GIB),
        ("Calls in the engine's batch, peak (after a step)", "calls", lambda engine: engine["running_peak"], 1),
        ("Calls in the engine's queue, peak", "calls", lambda engine: engine["waiting_peak"], 1),
        ("Preemptions in the window", "count", lambda engine: engine["preemptions"], 1),
    )
    drawn = [
        (text, label, _arms(drawing, rows, partial(_peak, value=value, unit=unit)))
        for text, label, value, unit in quantities
    ]
    moving = [panel for panel in drawn if not _is_zero(panel[2])] or drawn
    zero = [f"0 at every level: {panel[0]}" for panel in drawn if panel not in moving]
    canvas, panels = sheet(title, "\n".join((*zero, drawing.footer)), [2.0] * len(moving))
    for axes, (text, label, marks) in zip(panels, moving, strict=True):
        draw_marks(axes, marks)
        name(axes, text, y=label)
        if not label.endswith("iB"):
            axes.set_ylim(top=max(axes.get_ylim()[1], 1.2))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    panels[-1].set_xlabel(CONCURRENCY)
    level_axis(panels[-1], map(_at, rows))
    return save(canvas, drawing.folder / "memory_vs_concurrency.png")


def _arms(
    drawing: Drawing[ConcurrencySummary], rows: Sequence[LevelRow], mark: Callable[[LevelRow], Mark | None]
) -> list[tuple[str, list[Mark]]]:
    """Return the marks of each arm, without the levels that have none."""
    return [(arm, [one for row in rows if row["arm"] == arm and (one := mark(row))]) for arm in drawing.arms]


def _is_zero(arms: Sequence[tuple[str, Sequence[Mark]]]) -> bool:
    """Return whether all values are known and 0: a sentence says that better than a panel."""
    return all(marks and not any(mark.y for mark in marks) for _, marks in arms)


def _at(row: LevelRow) -> int:
    """Return the concurrency of a closed loop."""
    return row["concurrency"] or 0


def _throughput(row: LevelRow) -> Mark | None:
    found = row["throughput"]
    rate = found["per_second"]
    return None if rate is None else Mark(_at(row), rate, found["ci"], note(found["n"], found["ci"]))


def _efficiency(row: LevelRow) -> Mark | None:
    if not (found := row["efficiency"]):
        return None
    text = "1 by definition" if _at(row) == 1 else note(found["requests"], found["ci"])
    return Mark(_at(row), found["efficiency"], found["ci"], text)


def _percentile(row: LevelRow, index: int) -> Mark | None:
    found, x = row["latency_seconds"][index], row["rate"] or _at(row)
    return None if found["value"] is None else Mark(x, found["value"], found["ci"], note(found["n"], found["ci"]))


def _peak(row: LevelRow, value: Callable[[EngineExtremes], float | None], unit: int) -> Mark | None:
    peak = value(row["engine"])
    return None if peak is None else Mark(_at(row), peak / unit)


def _closed(drawing: Drawing[ConcurrencySummary]) -> list[LevelRow]:
    return [row for row in drawing.summary["levels"] if row["loop"] == "closed"]


def level_axis(axes: Axes, levels: Iterable[int]) -> None:
    """Put a tick at each concurrency, on an axis on which doubling is a step."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(levels))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
