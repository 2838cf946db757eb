"""`hop2rag soak`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workload.commands.options import APP, SERVERS, Json, WebhookTokenFile, err, give, out, with_settings
from workload.errors import UsageError


@with_settings(
    *("k", "layout", *SERVERS, *APP, "results", "request_timeout", "seed", "figures"),
    max_hops=Annotated[int | None, typer.Option(help="Hops after which the agent answers (default: 3).")],
    engine_patience=Annotated[
        float | None,
        typer.Option(help="Seconds that a vLLM of yours may be silent before the run ends (default: 600)."),
    ],
)
def soak(
    *,
    flags: dict[str, Any],
    duration: Annotated[str | None, typer.Option(help="How long, such as 8h, 90m or 1h30m.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Questions in flight (default: 1); in an open loop, the most.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Open loop: Poisson arrivals, in questions per second.")] = None,
    limit: Annotated[int | None, typer.Option(help="End after this many questions, however much time is left.")] = None,
    segment: Annotated[str | None, typer.Option(help="Length of the segments of the report (default: 5m).")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Engine profile (default: prefix-on); see `hop2rag engine profiles`.")
    ] = None,
    repeats: Annotated[
        bool, typer.Option(help="Let a repeated question hit what it left in the prefix cache before.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Record the actions that alerts ask for, and take none.")] = False,
    alerts: Annotated[bool, typer.Option(help="Let alerts steer; --no-alerts starts no Alertmanager.")] = True,
    pause_patience: Annotated[
        str | None, typer.Option(help="How long one alert may pause the run before the run ends (default: 30m).")
    ] = None,
    alertmanager_port: Annotated[int, typer.Option(help="Port of our own Alertmanager on 127.0.0.1.")] = 9093,
    webhook_port: Annotated[int, typer.Option(help="Port at which Alertmanager calls the run.")] = 9096,
    webhook_token_file: WebhookTokenFile = None,
    resume: Annotated[
        str | None, typer.Option(help="Resume this soak, with its settings, for the time it has left.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Drive the agent for hours, with a checkpoint every few seconds, watched and steered by alerts."""
    from workload.harness.stay_up import Ports  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.soak.display import soak_progress  # noqa: PLC0415
    from workload.soak.plan import load_plan  # noqa: PLC0415
    from workload.soak.reporting import show  # noqa: PLC0415
    from workload.soak.run import resumed, run_soak  # noqa: PLC0415

    if not duration and not resume:
        raise UsageError("A soak needs a --duration, such as 8h.", "Or resume an earlier one: --resume RUN.")
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
    settings = load_settings({"limit": 1, "engine_patience": 600.0, "max_hops": 3, "k": 10} | flags)
    # The duration bounds a soak. A fine timeline of hours would take gigabytes, so services of ours take one sample per
    # second; those of others have their own interval.
    started = {"vllm_interval_ms": not settings.places.prometheus_url, "gpu_interval_ms": not settings.places.exporter}
    settings = settings.changed(**{name: 1000 for name, is_ours in started.items() if is_ours})
    if resume:
        settings, plan = resumed(settings, plan, resume)
    ports = Ports(alertmanager=alertmanager_port, webhook=webhook_port)
    with soak_progress(err) as progress:
        finished = run_soak(settings, plan, ports, progress, resume, token_file=webhook_token_file)
    give(finished.summary, lambda: show(out, finished), as_json=as_json)
    raise typer.Exit(finished.exit_code)
