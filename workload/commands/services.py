"""`hop2rag up`, `hop2rag down` and `hop2rag doctor`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from workload.commands.options import EngineArgs, EnginePython, Json, Model, PrometheusRetentionSize, give, out
from workload.errors import UsageError

WatchFolder = Annotated[
    Path | None, typer.Option(help="Check what a folder of `hop2rag watch` names, instead of --vllm-endpoint.")
]


def up(
    *,
    profile: Annotated[str, typer.Option(help="Engine profile; see `hop2rag engine profiles`.")] = "prefix-on",
    engine_port: Annotated[int, typer.Option(help="Port of the engine on 127.0.0.1.")] = 8000,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus on 127.0.0.1.")] = 9090,
    alertmanager_port: Annotated[int, typer.Option(help="Port of Alertmanager on 127.0.0.1.")] = 9093,
    webhook_port: Annotated[int, typer.Option(help="Port of `hop2rag soak` that Alertmanager calls.")] = 9096,
    grafana_port: Annotated[int, typer.Option(help="Port of Grafana on 127.0.0.1, if Grafana is installed.")] = 3000,
    prometheus_retention_size: PrometheusRetentionSize = None,
    engine_python: EnginePython = None,
    model: Model = None,
    engine_args: EngineArgs = None,
) -> None:
    """Start engine, Prometheus, Alertmanager and an installed Grafana on 127.0.0.1, until Ctrl-C or `hop2rag down`."""
    from workload.engine.launcher import UP  # noqa: PLC0415
    from workload.engine.selection import process_launcher  # noqa: PLC0415
    from workload.harness.stay_up import Ports, stay_up  # noqa: PLC0415
    from workload.paths import cache_dir  # noqa: PLC0415
    from workload.services.locks import Requester  # noqa: PLC0415
    from workload.services.prometheus_server import RETENTION_SIZE, SIZE_PATTERN  # noqa: PLC0415

    if (engine_python is None) != (model is None):
        raise UsageError("An engine of your own needs both --engine-python and --model.", "See --help.")
    retention = prometheus_retention_size or RETENTION_SIZE
    if not re.fullmatch(SIZE_PATTERN, retention):
        raise UsageError(f"--prometheus-retention-size {retention!r} is not a size.", "Write it as 500MB, 10GB or 1TB.")
    extra = shlex.split(engine_args or "")
    launcher = process_launcher(
        engine_python, model, extra, port=engine_port, cache=cache_dir(), console=out, by=Requester(UP)
    )
    ports = Ports(
        prometheus=prometheus_port, alertmanager=alertmanager_port, webhook=webhook_port, grafana=grafana_port
    )
    stay_up(profile, launcher, ports, out, retention)


def down() -> None:
    """Stop the servers that `hop2rag up` started."""
    from workload.harness.take_down import bring_down  # noqa: PLC0415

    out.print(bring_down())


def doctor(
    vllm_endpoint: Annotated[str, typer.Option(help="The vLLM to check.", envvar="HOP2RAG_VLLM_ENDPOINT")] = (
        "http://127.0.0.1:8000"
    ),
    prometheus_url: Annotated[
        str, typer.Option(help="The Prometheus to check.", envvar="HOP2RAG_PROMETHEUS_URL")
    ] = "http://127.0.0.1:9090",
    grafana_url: Annotated[str | None, typer.Option(help="A Grafana to check, too.", envvar="GRAFANA_URL")] = None,
    watch: WatchFolder = None,
    as_json: Json = False,
) -> None:
    """Check vLLM, Prometheus and Grafana for metrics that are missing, renamed or behind a flag, and say what to do."""
    from contextlib import ExitStack  # noqa: PLC0415
    from dataclasses import asdict  # noqa: PLC0415

    from workload.doctor.address import examine_address  # noqa: PLC0415
    from workload.doctor.finding import Finding, exit_code, show  # noqa: PLC0415
    from workload.doctor.servers import examine, examine_vllm  # noqa: PLC0415
    from workload.doctor.watched import examine_watched  # noqa: PLC0415
    from workload.engine.endpoint import check_url, open_client, parse_endpoint  # noqa: PLC0415
    from workload.engine.key import read_key  # noqa: PLC0415
    from workload.services.grafana_token import read_token  # noqa: PLC0415
    from workload.services.prometheus import PrometheusClient  # noqa: PLC0415
    from workload.services.prometheus_server import loopback_session  # noqa: PLC0415
    from workload.watch.subject import subject_of  # noqa: PLC0415

    with ExitStack() as stack:
        prometheus = PrometheusClient(prometheus_url, loopback_session())
        endpoints = subject_of(watch).vllm if watch else [parse_endpoint(vllm_endpoint)]
        grafana = stack.enter_context(open_client(check_url(grafana_url, "--grafana-url"))) if grafana_url else None
        if grafana is not None and (token := read_token()):
            grafana.headers["Authorization"] = f"Bearer {token}"
        findings: list[Finding] = []
        for endpoint in endpoints:
            findings += examine_address(endpoint)
            findings += examine_vllm(stack.enter_context(open_client(endpoint, key=read_key())))
        findings += examine(prometheus, grafana)
        findings += examine_watched(watch, prometheus) if watch else []
    give([asdict(finding) for finding in findings], lambda: show(out, findings), as_json=as_json)
    raise typer.Exit(exit_code(findings))
