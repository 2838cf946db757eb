"""Turns what a run measured into its summary, pictures and report. A run, a redraw and the demo end here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workload.analysis.cache_inferred import settle
from workload.analysis.serving import serving
from workload.analysis.token_fates import fates_by_arm
from workload.analysis.waterfall import slowest
from workload.charts.drawing import Drawing
from workload.record.results import Finished, Measured, RunData, read_run
from workload.report.footer import footer
from workload.report.latest_results import publish
from workload.report.page import REPORT, render, section_of
from workload.report.serving import HEADER, SERVING_FILE, csv_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workload.experiment import Experiment, Study
    from workload.record.bundle import Bundle
    from workload.record.evidence import Evidence


def finish(
    experiment: Experiment[Any],
    evidence: Evidence,
    measured: Sequence[Measured],
    label: str = "",
    *,
    draws: bool = True,
) -> Finished:
    """Reduce a measured run, draw its pictures and complete its bundle.

    Args:
        experiment: what was run.
        evidence: of the run.
        measured: its windows.
        label: of a recording, repeated by every picture. The manifest of a recording already says how it ended.
        draws: whether to draw pictures.
    """
    settings, bundle, client = evidence.settings, evidence.bundle, evidence.client
    data = settle(read_run(bundle.journal, measured, evidence))
    summary = {
        "experiment": experiment.name,
        "run": bundle.run_id,
        "replay_of": settings.load.replay,
        "order": settings.load.order,
        "layout": settings.agent.layout,
        **found_in(data, experiment, evidence),
        "accounting": [dict(part.accounting) for part in measured],
    }
    bundle.write_json("summary.json", summary)
    folder = publish(bundle, experiment, summary)
    files = draw(experiment, evidence, data, summary, folder, label=label) if draws else ()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    end = {"label": label} if label else {"status": "finished", "finished": now, "warnings": client.warnings}
    bundle.note(**end)
    return write_report(experiment, bundle, summary, files, label)


def found_in(data: RunData, experiment: Experiment[Any], evidence: Evidence) -> dict[str, Any]:
    """Return the experiment's own figures and those of every experiment; the table of the latter is kept as CSV."""
    served = serving(data, evidence.settings.places.slo)
    evidence.bundle.write_csv(SERVING_FILE, HEADER, csv_rows(served))
    fates = fates_by_arm(data, [arm.name for arm in experiment.arms])
    return {
        **experiment.reduce(data),
        "slowest": slowest(data),
        "serving": served,
        **({"token_fates": fates} if fates else {}),
    }


def draw(
    experiment: Experiment[Any], evidence: Evidence, data: RunData, summary: dict[str, Any], folder: Path, *, label: str
) -> Sequence[Path]:
    """Draw a run's pictures into a folder and return their paths."""
    arms = tuple(arm.name for arm in experiment.arms)
    client, bundle = evidence.client, evidence.bundle
    origin = footer(bundle.run_id, evidence.settings, data.measured, label)
    return experiment.draw(
        Drawing(experiment.name, arms, data, summary, client, bundle=bundle, folder=folder, footer=origin)
    )


def write_report(
    study: Study[Any], bundle: Bundle, summary: Mapping[str, Any], files: Sequence[Path], label: str = ""
) -> Finished:
    """Write the page of a run whose pictures are drawn, and return the finished run."""
    finished = Finished(bundle.run_id, summary, tuple(files), bundle.folder)
    title = f"{study.title} ({label})" if label else study.title
    bundle.write_text(REPORT, render(title, [section_of(study, finished)]))
    return finished
