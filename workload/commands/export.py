"""`hop2rag export`, `hop2rag figures` and `hop2rag trace`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workload.commands.options import out, progress_bars
from workload.errors import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from workload.report.past_run import PastRun
    from workload.services.prometheus import PrometheusClient

Run = Annotated[str, typer.Option("--run", help="The run: the name of its folder under results/runs.")]
Results = Annotated[Path, typer.Option(help="Folder of the results.", envvar="HOP2RAG_RESULTS")]
PrometheusUrl = Annotated[
    str | None, typer.Option(help="A Prometheus that has the run (default: our own, started if it is not up).")
]


def figures(
    run: Run,
    results: Results = Path("results"),
    prometheus_url: PrometheusUrl = None,
    formats: Annotated[str, typer.Option("--format", help="svg, pdf, or both, beside PNG: svg,pdf.")] = "png",
) -> None:
    """Draw a run's figures again: from Prometheus if it still has the run, else from the run's CSV files."""
    from workload.charts.time_series import FORMATS, further_formats  # noqa: PLC0415
    from workload.experiments.lookup import study_of  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.report.past_run import open_run  # noqa: PLC0415
    from workload.report.redraw import redraw  # noqa: PLC0415

    kinds = [kind.strip() for kind in formats.split(",")]
    if unknown := [kind for kind in kinds if kind not in FORMATS]:
        raise UsageError(f"--format {formats}: {unknown[0]!r} is no format.", f"Formats are {', '.join(FORMATS)}.")
    found = open_run(run, results, study_of)
    with _series_of(found, prometheus_url) as client:
        asked = further_formats.set(tuple(kind for kind in kinds if kind != "png"))
        try:
            paths = redraw(found, client)
        finally:
            further_formats.reset(asked)
    for path in paths:
        out.print(str(path), soft_wrap=True, highlight=False)


def trace(
    run: Annotated[str, typer.Argument(help="The run: the name of its folder under results/runs.")],
    question: Annotated[str, typer.Argument(help="The question's id, as in the journal and in the report.")],
    results: Results = Path("results"),
) -> None:
    """Print where a question's time went: its nodes, stages of retrieval and LLM calls, once per arm and load."""
    from workload.analysis.waterfall import waterfalls  # noqa: PLC0415 - `--help` need not load these
    from workload.experiments.lookup import study_of  # noqa: PLC0415
    from workload.record.results import read_run  # noqa: PLC0415
    from workload.report.past_run import open_run  # noqa: PLC0415
    from workload.report.waterfall import find_questions, print_waterfall  # noqa: PLC0415

    found = open_run(run, results, study_of)
    data = read_run(found.bundle.journal, found.measured)
    for shown in waterfalls(data, find_questions(data, question)):
        print_waterfall(out, shown)


def export(
    *,
    run: Run,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files (default: results/runs/RUN/export/DASHBOARD).")
    ] = None,
    dashboard: Annotated[
        str | None, typer.Option(help="The dashboard, such as overview (default: the experiment's, if it has one).")
    ] = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Also save a snapshot with its data in the Grafana at GRAFANA_URL.")
    ] = False,
    results: Results = Path("results"),
    prometheus_url: PrometheusUrl = None,
) -> None:
    """Write every panel of a run's dashboard as PNG and CSV, and the dashboard as one picture.

    The Grafana at GRAFANA_URL draws the panels if it has a renderer (its token is in GRAFANA_TOKEN, or in the file
    GRAFANA_TOKEN_FILE); else they are drawn here, as the dashboard always is.
    """
    from workload.dashboards.catalogue import DASHBOARDS, dashboard_of  # noqa: PLC0415
    from workload.experiments.lookup import study_of  # noqa: PLC0415
    from workload.export.capture import capture, scope_of  # noqa: PLC0415
    from workload.export.panel_series import TimeRange  # noqa: PLC0415
    from workload.export.stored import has_run  # noqa: PLC0415
    from workload.record.annotations import find_grafana  # noqa: PLC0415 - `--help` need not load these
    from workload.report.past_run import open_run  # noqa: PLC0415

    found = open_run(run, results, study_of)
    by_name = {each.name: each for each in DASHBOARDS}
    if dashboard and dashboard not in by_name:
        raise UsageError(f"There is no dashboard {dashboard!r}.", f"There are: {', '.join(by_name)}.")
    shown = by_name[dashboard] if dashboard else dashboard_of(found.study.name)
    if not found.measured:
        raise UsageError(f"{run} has no series: no engine ran.", f"Draw it again: hop2rag figures --run {run}")
    grafana = find_grafana()
    if snapshot and grafana is None:
        raise UsageError("A snapshot needs a Grafana.", "Set GRAFANA_URL and GRAFANA_TOKEN.")
    windows = [part.window for part in found.measured]
    folder = folder or found.bundle.folder / "export" / shown.name
    with _series_of(found, prometheus_url) as client, progress_bars() as progress:
        if not has_run(client, run, found.measured):
            raise UsageError(
                f"The Prometheus at {client.url} does not have {run}.",
                f"Name another with --prometheus-url, or draw from the run's CSV files: hop2rag figures --run {run}",
            )
        task = progress.add_task(shown.title, total=sum(len(row.panels) for row in shown.rows))
        kept = capture(
            shown,
            client,
            scope_of(run, (window.arm for window in windows)),
            TimeRange.over(windows),
            folder,
            footer=found.footer,
            grafana=grafana,
            keeps_snapshot=snapshot,
            advance=lambda: progress.advance(task),
        )
    pictures = sum(path.suffix == ".png" for path in kept.files)
    drawn_by = f", {kept.rendered} of them drawn by Grafana" if grafana else ""
    out.print(f"{pictures} pictures{drawn_by}, with their data as CSV, in {folder}", soft_wrap=True, highlight=False)
    if grafana and kept.refusal:
        out.print(f"Drawn here: {kept.refusal}", soft_wrap=True, highlight=False, markup=False)
    if kept.empty:
        out.print(f"Without data: {'; '.join(kept.empty)}", soft_wrap=True, highlight=False, markup=False)
    if kept.snapshot:
        out.print(f"Snapshot: {kept.snapshot}", soft_wrap=True, highlight=False)


def _series_of(found: PastRun, url: str | None) -> AbstractContextManager[PrometheusClient]:
    from workload.export.stored import prometheus_of_runs  # noqa: PLC0415

    return prometheus_of_runs(url, found.settings.places.prometheus_port)
