"""Draws a finished run's figures again: all of them while Prometheus has its series, else the panels kept as CSV."""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.analysis.cache_inferred import settle
from workload.charts import time_series
from workload.dashboards.catalogue import dashboard_of
from workload.errors import UsageError
from workload.experiment import Experiment, OfflineExperiment
from workload.export.stored import has_run
from workload.files import atomic_file
from workload.files.csv_cells import text_in
from workload.files.enclosed import text_of
from workload.panels.data import Trace
from workload.panels.panel import Figure, Panel
from workload.record.evidence import Evidence
from workload.record.manifest import readable
from workload.record.results import read_run
from workload.report.finish import draw, found_in, write_report
from workload.report.latest_results import folder_to_redraw

if TYPE_CHECKING:
    from pathlib import Path

    from workload.report.past_run import PastRun
    from workload.services.prometheus import PrometheusClient


def redraw(found: PastRun, client: PrometheusClient) -> list[Path]:
    """Draw a run's figures, renew its report, and return the pictures.

    Pictures go to the experiment's folder if its files are this run's, else to the run's own folder: next to the JSON
    of a later run they would pass for that run's.

    Where Prometheus no longer has the run, only what was kept as CSV can be drawn, and the report stays.

    Raises:
        UsageError: nothing of the run is left to draw from, or its files are damaged.
        PrometheusError: Prometheus failed.
    """
    with readable(found.run):
        return _redraw(found, client)


def _redraw(found: PastRun, client: PrometheusClient) -> list[Path]:
    folder = folder_to_redraw(found.bundle, found.study)
    summary = found.summary
    if isinstance(found.study, OfflineExperiment):
        files = found.study.draw(found.summary, folder)
    elif found.measured and has_run(client, found.run, found.measured):
        evidence = Evidence(client, found.study.name, found.bundle, found.settings)
        data = settle(read_run(found.bundle.journal, found.measured, evidence))
        # Everything is computed again, because an older release may have used other estimators than today's words name.
        summary = {**found.summary, **found_in(data, found.study, evidence)}
        files = draw(found.study, evidence, data, summary, folder, label=found.label)
    else:
        return draw_kept(found, found.study, folder)
    # the same release computes what the pictures show and both copies of the summary
    found.bundle.write_json("summary.json", summary)
    atomic_file.write(folder / found.study.summary_file, json.dumps(summary, indent=2) + "\n")
    write_report(found.study, found.bundle, summary, files)
    return list(files)


def draw_kept(found: PastRun, experiment: Experiment[Any], folder: Path) -> list[Path]:
    """Draw what the bundle keeps as CSV: figures of which every panel is there, and all other panels alone.

    Raises:
        UsageError: no panel was kept.
    """
    kept = {path.stem: path for path in (found.bundle.folder / "panels").glob("*.csv")}
    shown = dashboard_of(experiment.name)
    panels = {panel.key: panel for row in shown.rows for panel in row.panels if panel.key in kept}
    whole = [figure for figure in experiment.figures if all(panel.key in kept for panel in figure.panels)]
    in_figures = {panel.key for figure in whole for panel in figure.panels}
    alone = [
        Figure(f"panel_{key}.png", panel.title, (panel,)) for key, panel in panels.items() if key not in in_figures
    ]
    if not (whole or alone):
        raise UsageError(
            f"Nothing is left to draw {found.run} from: Prometheus does not have it, and no panel was kept.",
            "Name the Prometheus that has it with --prometheus-url.",
        )
    arms = tuple(arm.name for arm in experiment.arms)
    for figure in (*whole, *alone):
        traces = {panel.key: read_traces(kept[panel.key], panel) for panel in figure.panels}
        time_series.draw(figure, traces, arms, found.footer, folder / figure.file)
    return [folder / figure.file for figure in (*whole, *alone)]


def read_traces(path: Path, panel: Panel) -> list[Trace]:
    """Return a panel's traces as `Drawing.traces` wrote them, without their PromQL.

    Raises:
        UsageError: the file is damaged.
    """
    points: dict[tuple[str, int, str, str], list[tuple[float, float]]] = {}
    try:
        for row in csv.DictReader(StringIO(text_of(path), newline="")):
            place = (text_in(row["arm"]), int(row["block"]), text_in(row["point"]), text_in(row["legend"]))
            points.setdefault(place, []).append((float(row["seconds"]), float(row["value"])))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} is damaged ({error!r}).", "Leave it out, and try again.") from error
    shown = {
        place: np.array(values, dtype=np.float64).T
        for place, values in points.items()
        if any(line.has(place[3]) for line in panel.lines)
    }
    return [Trace(*place, "", seconds=seconds, values=values) for place, (seconds, values) in shown.items()]
