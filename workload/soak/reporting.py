"""Writes the summary, the figure and the report of a soak."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from workload.analysis.token_fates import fates_in_words
from workload.analysis.wording import given, number, percent
from workload.charts.canvas import DARK, GREY, legend, name, save, sheet
from workload.panels.colours import COLOURS
from workload.record.results import Finished
from workload.report.console import say
from workload.report.page import QUALITY, RANDOM_WEIGHTS, REPORT, Section, grouped, host_of, in_words, render
from workload.report.pictures import picture_of
from workload.soak.summary import EVERYTHING, MIB, TRENDS, summarise, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from rich.console import Console

    from workload.record.bundle import Bundle
    from workload.soak.record import SoakRecord

TITLE = "What drifts in a long run?"
COLUMNS = ("segment", "minutes", "sent", "ok", "failed", "p50", "p95", "hit rate")
MOST_POINTS = 4000
SAMPLE_COLUMNS = "at, in_flight, level, is_held, runner_bytes, engine_bytes"


@dataclass(frozen=True)
class FinishedSoak(Finished):
    """A soak that has ended, well or not, with its exit code."""

    exit_code: int


def report(bundle: Bundle, record: SoakRecord, facts: dict[str, Any], footer: str, *, draws: bool) -> FinishedSoak:
    """Write the summary, the figure and the report of a soak into its bundle.

    `facts` has what the journal does not contain: how the run ended, the exit code, counter resets; `footer` is what a
    copied figure must still say.
    """
    summary = {"run": bundle.run_id, **facts, **summarise(record)}
    bundle.write_json("summary.json", summary)
    files: tuple[Path, ...] = (draw(record, summary, footer, bundle.folder / "soak.png"),) if draws else ()
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    section = Section(
        name="soak",
        title=TITLE,
        origin=f"soak, run {bundle.run_id}",
        marks=[RANDOM_WEIGHTS] if "RANDOM WEIGHTS" in footer else (),
        conclusions=grouped(_sentences(summary)),
        figures=[picture_of(path) for path in files],
        columns=COLUMNS,
        rows=[_row(row) for row in summary["segments"]],
        accounting=[{name: in_words(value) for name, value in summary["accounting"].items()}],
        quality=[{title: number(summary["quality"][name]) for name, title in QUALITY.items()}],
        misses=(),
        promql={},
        host=host_of(manifest),
        manifest=json.dumps(manifest, indent=2),
    )
    bundle.write_text(REPORT, render(TITLE, [section]))
    return FinishedSoak(bundle.run_id, summary, files, bundle.folder, facts["exit_code"])


def _sentences(summary: Mapping[str, Any]) -> list[str]:
    fates = summary.get("token_fates")
    return [*verdicts(summary), *(fates_in_words({"soak": fates}) if fates else ())]


def _row(segment: dict[str, Any]) -> tuple[str, ...]:
    found, end = segment["summary"], segment["ended_at"]
    latency = found["latency_seconds"]
    return (
        str(segment["id"]),
        "not recorded" if end is None else number(max(0.0, end - segment["started_at"]) / 60),
        str(found["sent"]),
        str(found["ok"]),
        str(sum(found["failed"].values())),
        given(latency["p50"], " s"),
        given(latency["p95"], " s"),
        percent(found["hit_rate"]),
    )


def show(console: Console, finished: FinishedSoak) -> None:
    """Print the verdicts and the report's path."""
    say(console, f"soak, run {finished.run_id}", "bold")
    for sentence in _sentences(finished.summary):
        say(console, f"- {sentence}")
    say(console, f"Report: {finished.bundle / REPORT}", wraps=False)
    if finished.summary["status"] != "finished":
        say(console, f"Continue with: hop2rag soak --resume {finished.run_id}", wraps=False)


def draw(record: SoakRecord, summary: dict[str, Any], footer: str, path: Path) -> Path:
    """Draw latency, hit rate, memory and level of a soak, and its actions."""
    start, end = summary["start"], summary["end"]
    scale, unit = (3600.0, "h") if end - start > 7200 else (60.0, "min")

    def since(times: Any) -> NDArray[np.float64]:
        return np.asarray((np.asarray(times, dtype=np.float64) - start) / scale, dtype=np.float64)

    canvas, panels = sheet(_title(summary), footer, (2.2, 1.5, 1.6, 1.6))
    latency, hits, memory, level = panels
    _latency(latency, record, summary, since)
    _hits(hits, summary, since)
    rows = record.table("sample", SAMPLE_COLUMNS, "at") or []
    samples = np.array([tuple(row.values()) for row in rows], dtype=np.float64).reshape(-1, 6)
    _memory(memory, since(samples[:, 0]), samples)
    _level(level, since(samples[:, 0]), samples)
    for row in summary["actions"]:
        for axes in panels:
            axes.axvline(float(since(row["at"])), color=GREY, linewidth=0.8, linestyle=":")
    _label_actions(latency, summary, since)
    level.set_xlabel(f"{unit} since the start")
    level.set_xlim(0, max((end - start) / scale, 1e-3))
    return save(canvas, path)


def _title(summary: dict[str, Any]) -> str:
    drifting = [title.lower() for name, (title, _) in TRENDS.items() if _is_shown(summary["trends"][name])]
    judgeable = [name for name in TRENDS if summary["trends"][name]]
    seconds = summary["end"] - summary["start"]
    length = f"{seconds / 3600:.3g} h" if seconds > 7200 else f"{seconds / 60:.3g} min"
    found = "what drifted? Too short to say" if not judgeable else "no drift is shown"
    if drifting:
        found = f"{' and '.join(drifting)} drifted"
    return f"{summary['accounting']['ok']:,} questions answered in {length}: {found}"


def _is_shown(found: dict[str, Any] | None) -> bool:
    """Return whether the interval of a drift leaves out zero."""
    return found is not None and not found["ci_per_hour"][0] <= 0 <= found["ci_per_hour"][1]


def _latency(axes: Axes, record: SoakRecord, summary: dict[str, Any], since: Any) -> None:
    points = record.latencies(EVERYTHING)
    step = max(1, len(points) // MOST_POINTS)
    shown = points[::step]
    every = f", every {step}th" if step > 1 else ""
    axes.plot(since(shown[:, 0]), shown[:, 1], ".", color=COLOURS[0], markersize=2.5, alpha=0.5)
    name(axes, f"Time of each answered question by its start (n = {len(points):,}{every}); line: median of bins", y="s")
    _bins(axes, summary["trends"]["latency_seconds"], since)
    axes.set_ylim(bottom=0)


def _hits(axes: Axes, summary: dict[str, Any], since: Any) -> None:
    found = summary["trends"]["hit_rate"]
    name(axes, "Prompt tokens from the prefix cache, by bins" + ("" if found else ": too few, or not reported"))
    _bins(axes, found, since, marker="o")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _bins(axes: Axes, found: dict[str, Any] | None, since: Any, marker: str = "") -> None:
    if found:
        axes.plot(since(found["times"]), found["values"], color=DARK, linewidth=1.4, marker=marker, markersize=3)


def _memory(axes: Axes, at: NDArray[np.float64], samples: NDArray[np.float64]) -> None:
    name(axes, "Resident memory", y="MiB")
    for place, (column, label) in enumerate(((4, "runner"), (5, "engine"))):
        values = samples[:, column] / MIB
        if np.isfinite(values).any():
            axes.plot(at, values, color=COLOURS[place + 1], linewidth=1.2, label=label)
    axes.set_ylim(bottom=0)
    legend(axes, "lower right", 2)


def _level(axes: Axes, at: NDArray[np.float64], samples: NDArray[np.float64]) -> None:
    title = "Questions in flight (failed ones until the engine answers), and how many were allowed; grey: paused"
    name(axes, title, y="questions")
    axes.plot(at, samples[:, 1], color=COLOURS[0], linewidth=0.8, label="in flight")
    axes.plot(at, samples[:, 2], color=DARK, linewidth=1.4, drawstyle="steps-post", label="allowed")
    top = max(samples[:, 1:3].max(initial=1), 1) * 1.15
    axes.fill_between(at, 0, top, where=samples[:, 3] > 0, color="#cccccc", step="post", linewidth=0)
    axes.set_ylim(0, top)
    legend(axes, "lower right", 2)


def _label_actions(axes: Axes, summary: dict[str, Any], since: Any) -> None:
    """Label each action at its line; of actions close together, only the first has room for a label."""
    last = -1.0
    span = float(since(summary["end"]))
    for row in summary["actions"]:
        at = float(since(row["at"]))
        if at - last < 0.02 * span:
            continue
        last = at
        text = f"{row['action']} {row['alert']}".strip()
        axes.annotate(
            text,
            (at, 1),
            (2, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=7,
            color=DARK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
