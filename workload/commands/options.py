"""Options and output that several commands share."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from workload.report.console import PlainConsole

if TYPE_CHECKING:
    from collections.abc import Iterator

out = PlainConsole()
err = PlainConsole(stderr=True)

Limit = Annotated[
    int | None,
    typer.Option("--limit", "--num-requests", help="Questions to ask in each arm (default: the experiment's)."),
]
MaxHops = Annotated[int | None, typer.Option(help="Hops after which the loop ends (default: the experiment's).")]
K = Annotated[int | None, typer.Option("--k", "--docs-per-hop", help="Documents retrieved a hop.")]
Endpoint = Annotated[str | None, typer.Option(help="Use this running vLLM instead of starting the packaged one.")]
ServedModel = Annotated[
    str | None, typer.Option(help="The model of --vllm-endpoint that answers, or an adapter (default: the first).")
]
EnginePython = Annotated[
    Path | None, typer.Option(help="Start vLLM with this interpreter, such as venv/bin/python, not the packaged one.")
]
Model = Annotated[str | None, typer.Option(help="Model folder or repository that --engine-python serves.")]
EngineArgs = Annotated[
    str | None, typer.Option(help="Further arguments of an engine that we start: '--load-format dummy'.")
]
OtlpEndpoint = Annotated[
    str | None,
    typer.Option(help="Export spans to this OpenTelemetry collector by gRPC, such as http://127.0.0.1:4317."),
]
PersistDir = Annotated[Path | None, typer.Option(help="Chroma store (default: AGRAG_PERSIST_DIR, else our own).")]
Collection = Annotated[str | None, typer.Option(help="Collection in the store (default: AGRAG_COLLECTION_NAME).")]
Questions = Annotated[
    Path | None,
    typer.Option(help="HotpotQA, 2WikiMultihopQA or MuSiQue, JSON or JSON lines; indexed where no store is named."),
]
PrometheusPort = Annotated[int | None, typer.Option(help="Port of our own Prometheus on 127.0.0.1 (default: 9090).")]
PrometheusRetentionSize = Annotated[
    str | None, typer.Option(help="What our own Prometheus keeps at most, such as 500MB or 20GB (default: 10GB).")
]
EnginePort = Annotated[int | None, typer.Option(help="Port of an engine that we start (default: 8000).")]
Seed = Annotated[int | None, typer.Option(help="Seed of the draw of questions and of sampling (default: 0).")]

Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Set an option of the agent, KEY=VALUE: layout; k; max-hops; primed; retrieval (threads, blocking or "
        "batched); retrieval-delay (seconds); prefetch (off, question, last-clue, missing-fact or planted); "
        "draft-accuracy; sleeping; context (all, truncate, importance or progressive); context-budget (tokens).",
    ),
]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show progress on standard error, so that results can be piped."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        yield progress
