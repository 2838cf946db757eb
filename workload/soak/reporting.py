"""Writes what a reader gets of a soak: its summary, its figure and its report."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.analysis.wording import given, number, percent
from workload.report.console import say
from workload.report.page import QUALITY, RANDOM_WEIGHTS, REPORT, Section, in_words, render
from workload.soak.chart import draw
from workload.soak.summary import summarise, verdicts

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from workload.record.bundle import Bundle
    from workload.soak.record import SoakRecord

TITLE = "What drifts in a long run?"
COLUMNS = ("segment", "minutes", "sent", "ok", "failed", "p50", "p95", "hit rate")


@dataclass(frozen=True)
class FinishedSoak:
    """A soak that has ended, well or not: its run, summary, figures, folder and exit code."""

    run_id: str
    summary: dict[str, Any]
    files: tuple[Path, ...]
    bundle: Path
    exit_code: int


def report(bundle: Bundle, record: SoakRecord, facts: dict[str, Any], footer: str, *, draws: bool) -> FinishedSoak:
    """Write the summary, the figure and the report of a soak into its bundle.

    Args:
        bundle: the run's bundle.
        record: its journal.
        facts: what the journal does not contain: how the run ended, the exit code, counter resets.
        footer: what a copied figure must still say.
        draws: whether to draw the figure.
    """
    summary = {"run": bundle.run_id, **facts, **summarise(record)}
    bundle.write_json("summary.json", summary)
    files: tuple[Path, ...] = (draw(record, summary, footer, bundle.folder / "soak.png"),) if draws else ()
    section = Section(
        name="soak",
        title=TITLE,
        origin=f"soak, run {bundle.run_id}",
        marks=[RANDOM_WEIGHTS] if "RANDOM WEIGHTS" in footer else (),
        verdicts=verdicts(summary),
        figures=[{"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in files],
        columns=COLUMNS,
        rows=[_row(row) for row in summary["segments"]],
        accounting=[{name: in_words(value) for name, value in summary["accounting"].items()}],
        quality=[{title: number(summary["quality"][name]) for name, title in QUALITY.items()}],
        promql={},
        manifest=json.dumps(json.loads((bundle.folder / "manifest.json").read_text()), indent=2),
    )
    bundle.write_text(REPORT, render(TITLE, [section]))
    return FinishedSoak(bundle.run_id, summary, files, bundle.folder, facts["exit_code"])


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
    for sentence in verdicts(finished.summary):
        say(console, f"- {sentence}")
    say(console, f"Report: {finished.bundle / REPORT}", wraps=False)
    if finished.summary["status"] != "finished":
        say(console, f"Continue with: hop2rag soak --resume {finished.run_id}", wraps=False)
