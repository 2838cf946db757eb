"""`hop2rag suite`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workload.commands.options import (
    EnginePort,
    Limit,
    MaxHops,
    PrometheusPort,
    PrometheusRetentionSize,
    Seed,
    out,
    progress_bars,
)


def suite(
    smoke: Annotated[bool, typer.Option(help="Small sizes: about twenty minutes on two cores.")] = False,
    limit: Limit = None,
    max_hops: MaxHops = None,
    engine_port: EnginePort = None,
    prometheus_port: PrometheusPort = None,
    prometheus_retention_size: PrometheusRetentionSize = None,
    results: Annotated[Path, typer.Option(help="Where results go.", envvar="HOP2RAG_RESULTS")] = Path("results"),
    seed: Seed = None,
    figures: Annotated[bool, typer.Option(help="Draw the figures; the JSON is the same without.")] = True,
    resume: Annotated[str | None, typer.Option(help="Go on with this interrupted suite, with the same flags.")] = None,
) -> None:
    """Run all experiments in the plan's order and bind them into one report."""
    from workload.experiments import EXPERIMENTS  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.experiments.suite import run_suite  # noqa: PLC0415
    from workload.report.headlines import print_verdicts  # noqa: PLC0415

    flags = {
        "limit": limit,
        "max_hops": max_hops,
        "engine_port": engine_port,
        "prometheus_port": prometheus_port,
        "prometheus_retention_size": prometheus_retention_size,
        "seed": seed,
        "figures": figures,
    }
    with progress_bars() as progress:
        report, finished = run_suite(flags, results, progress, resume, smoke=smoke)
    for run in finished:
        print_verdicts(out, EXPERIMENTS[run.summary["experiment"]], run)
    out.print(f"Report: {report}", soft_wrap=True)
