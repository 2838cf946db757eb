"""`hop2rag soak`."""

from __future__ import annotations

import shlex
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import Annotated

import typer

from workload.commands.options import (
    Collection,
    Endpoint,
    EngineArgs,
    EnginePort,
    EnginePython,
    K,
    Model,
    PersistDir,
    PrometheusPort,
    PrometheusRetentionSize,
    Questions,
    Seed,
    ServedModel,
    err,
    out,
)
from workload.errors import UsageError


def soak(
    duration: Annotated[str | None, typer.Option(help="How long, such as 8h, 90m or 1h30m.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Questions in flight (default: 1; of an open loop the most there may be).")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Open loop: so many questions a second, Poisson arrivals.")] = None,
    limit: Annotated[int | None, typer.Option(help="End after so many questions, whatever time is left.")] = None,
    segment: Annotated[str | None, typer.Option(help="Length of the summarised stretches (default: 5m).")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Engine profile (default: prefix-on); see `hop2rag engine profiles`.")
    ] = None,
    repeats: Annotated[
        bool, typer.Option(help="Let a repeated question hit what its earlier self left in the prefix cache.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Write down what the alerts ask for, and do nothing of it.")] = False,
    alerts: Annotated[bool, typer.Option(help="Let the alerts steer; --no-alerts starts no Alertmanager.")] = True,
    pause_patience: Annotated[
        str | None, typer.Option(help="How long one alert may pause the run before it is ended (default: 30m).")
    ] = None,
    max_hops: Annotated[int | None, typer.Option(help="Hops after which the loop ends (default: 3).")] = None,
    k: K = None,
    layout: Annotated[
        str | None, typer.Option(help="Order of the prompts' parts: original, instructions-first or append-only.")
    ] = None,
    vllm_endpoint: Endpoint = None,
    served_model: ServedModel = None,
    engine_python: EnginePython = None,
    model: Model = None,
    engine_args: EngineArgs = None,
    persist_dir: PersistDir = None,
    collection: Collection = None,
    questions: Questions = None,
    prometheus_port: PrometheusPort = None,
    prometheus_retention_size: PrometheusRetentionSize = None,
    alertmanager_port: Annotated[int, typer.Option(help="Port of our own Alertmanager on 127.0.0.1.")] = 9093,
    webhook_port: Annotated[int, typer.Option(help="Port on 127.0.0.1 at which Alertmanager calls the run.")] = 9096,
    engine_port: EnginePort = None,
    results: Annotated[Path | None, typer.Option(help="Where results go (default: results).")] = None,
    request_timeout: Annotated[float | None, typer.Option(help="Limit of one LLM call, in seconds.")] = None,
    engine_patience: Annotated[
        float | None,
        typer.Option(help="Seconds that a vLLM of yours may be silent before the run ends (default: 600)."),
    ] = None,
    seed: Seed = None,
    figures: Annotated[bool, typer.Option(help="Draw the picture of the report.")] = True,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this soak, with its settings, for its time left.")
    ] = None,
) -> None:
    """Drive the agent for hours, checkpointed every few seconds, watched and steered by the alerts."""
    from workload.settings import load_settings  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.soak.display import soak_progress  # noqa: PLC0415
    from workload.soak.plan import load_plan  # noqa: PLC0415
    from workload.soak.reporting import show  # noqa: PLC0415
    from workload.soak.run import Ports, resumed, run_soak  # noqa: PLC0415

    if not duration and not resume:
        raise UsageError("A soak wants a --duration, such as 8h.", "Or go on with an earlier one: --resume RUN.")
    plan = load_plan(
        {
            "duration": duration or 1.0,
            "concurrency": concurrency,
            "rate": rate,
            "questions": limit,
            "segment": segment,
            "profile": profile,
            "repeats": repeats,
            "alerts": alerts,
            "dry_run": dry_run,
            "pause_patience": pause_patience,
        }
    )
    settings = load_settings(
        {
            # What bounds a soak is its duration. Fine timelines of hours would be gigabytes: a sample a second.
            "limit": 1,
            "vllm_interval_ms": 1000,
            "gpu_interval_ms": 1000,
            "max_hops": 3 if max_hops is None else max_hops,
            "k": 10 if k is None else k,
            "engine_patience": 600.0 if engine_patience is None else engine_patience,
            "layout": layout,
            "vllm_endpoint": vllm_endpoint,
            "served_model": served_model,
            "engine_python": engine_python,
            "model": model,
            "engine_args": shlex.split(engine_args) if engine_args else None,
            "persist_dir": persist_dir,
            "collection": collection,
            "questions": questions,
            "prometheus_port": prometheus_port,
            "prometheus_retention_size": prometheus_retention_size,
            "engine_port": engine_port,
            "results": results,
            "request_timeout": request_timeout,
            "seed": seed,
            "figures": figures,
        }
    )
    if resume:
        settings, plan = resumed(settings, plan, resume)
    with soak_progress(err) as progress:
        finished = run_soak(settings, plan, Ports(alertmanager_port, webhook_port), progress, resume)
    show(out, finished)
    raise typer.Exit(finished.exit_code)
