"""`hop2rag demo`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from workload.commands.options import out
from workload.errors import MissingPartError
from workload.paths import asset, cache_dir


def demo(
    recording: Annotated[
        Path | None, typer.Option(help="Folder of a recording (default: those shipped with the project).")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("results/demo"),
    prometheus_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the demo's own Prometheus.")] = 9190,
    once: Annotated[bool, typer.Option("--once", help="Exit after the figures instead of waiting for Ctrl-C.")] = False,
    dashboards: Annotated[bool, typer.Option("--dashboards", help="Also draw each run's dashboard.")] = False,
) -> None:
    """Show a recorded run: load it into a local Prometheus, and draw its figures with a label of their origin."""
    from workload.demo.figures import draw_dashboard, draw_run  # noqa: PLC0415 - `--help` need not load these
    from workload.demo.recording import find_recordings  # noqa: PLC0415
    from workload.demo.server import links, serve  # noqa: PLC0415
    from workload.report.headlines import print_finished  # noqa: PLC0415
    from workload.services.prometheus_binary import find_prometheus  # noqa: PLC0415

    folder = recording or asset("tests/fixtures/reference-run")
    if not folder.exists() and recording is None:
        raise MissingPartError(
            "The recordings are not part of an installed package.",
            "Get tests/fixtures/reference-run from the repository, and name it with --recording.",
        )
    recordings = find_recordings(folder)
    cache = cache_dir()
    with serve(recordings, find_prometheus(cache), cache / f"demo-{prometheus_port}", prometheus_port) as client:
        for found in recordings:
            out.rule(found.label)
            for run in found.runs:
                print_finished(out, *draw_run(found, run, client, results))
                if dashboards:
                    out.print(str(draw_dashboard(run, client, results)), soft_wrap=True, highlight=False)
        out.rule(f"Prometheus: {client.url}")
        for found in recordings:
            out.print(f"{found.label}:\n{links(found, client.url)}", soft_wrap=True, markup=False, highlight=False)
        if not once:
            out.print("Ctrl-C stops it.")
            try:
                signal.pause()
            except KeyboardInterrupt:
                out.print("Stopping.")
