"""`hop2rag suite`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workload.commands.options import APP, PORTS, Json, give, out, progress_bars, with_settings


@with_settings("limit", "max_hops", *PORTS, *APP, "prometheus_retention_size", "seed", "figures")
def suite(
    flags: dict[str, Any],
    smoke: Annotated[bool, typer.Option(help="Small sizes: about twenty minutes on two cores.")] = False,
    results: Annotated[Path, typer.Option(help="Folder for results.", envvar="HOP2RAG_RESULTS")] = Path("results"),
    resume: Annotated[str | None, typer.Option(help="Resume this interrupted suite, with the same flags.")] = None,
    as_json: Json = False,
) -> None:
    """Run all experiments in order and bind them into one report."""
    from workload.experiments import EXPERIMENTS  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.experiments.suite import run_suite  # noqa: PLC0415
    from workload.report.headlines import print_verdicts  # noqa: PLC0415

    with progress_bars() as progress:
        report, finished = run_suite(flags, results, progress, resume, smoke=smoke)

    def show() -> None:
        for run in finished:
            print_verdicts(out, EXPERIMENTS[run.summary["experiment"]], run)
        out.print(f"Report: {report}", soft_wrap=True)

    give([run.summary for run in finished], show, as_json=as_json)
