"""The options that set settings, declared once for all commands; and the consoles that commands print to."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from workload.report.console import PlainConsole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., None]

out = PlainConsole()
err = PlainConsole(stderr=True)

PrometheusRetentionSize = Annotated[
    str | None, typer.Option(help="Most that our own Prometheus keeps, such as 500MB or 20GB (default: 10GB).")
]
EnginePython = Annotated[
    Path | None, typer.Option(help="Start vLLM with this interpreter, such as venv/bin/python, not the packaged one.")
]
Model = Annotated[str | None, typer.Option(help="Model folder or repository that --engine-python serves.")]
EngineArgs = Annotated[
    str | None, typer.Option(help="Further arguments for an engine that we start: '--load-format dummy'.")
]

WebhookTokenFile = Annotated[
    Path | None, typer.Option(help="File with the bearer token that a running Alertmanager sends to our webhook.")
]

# The option of each setting by the setting's name; see `workload.settings`.
SETTINGS = {
    "limit": Annotated[
        int | None,
        typer.Option("--limit", "--num-requests", help="Questions to ask per arm (default: the experiment's)."),
    ],
    "concurrency": Annotated[
        str | None, typer.Option(help="Questions in flight, or several levels: 1,2,4,8 (default: the experiment's).")
    ],
    "rate": Annotated[
        str | None,
        typer.Option(help="concurrency: also an open loop at so many questions per second, or several: 0.5,1."),
    ],
    "rounds": Annotated[
        int | None, typer.Option(help="concurrency: at least so many questions per worker of a level (default: none).")
    ],
    "contexts": Annotated[
        str | None, typer.Option(help="context-growth: prompt lengths of the sweep in tokens, such as 512,4096,8000.")
    ],
    "order": Annotated[str | None, typer.Option(help="AB, or ABBA to balance drift (default: ABBA).")],
    "interleave": Annotated[
        int | None,
        typer.Option(
            help="Questions per block, after which the next arm's block begins (default: 3 per question in flight; "
            "all where arms need engines of their own)."
        ),
    ],
    "record_prompts": Annotated[
        bool | None, typer.Option(help="Keep the texts of prompts and replies in the run's journal (mode 0600).")
    ],
    "replay": Annotated[
        str | None, typer.Option(help="Replay this recorded run: the computation is real, the texts are recorded.")
    ],
    "from_run": Annotated[
        str | None, typer.Option(help="kv-cache: take the prompts of this run, recorded with --record-prompts.")
    ],
    "seed": Annotated[int | None, typer.Option(help="Seed of the draw of questions and of sampling (default: 0).")],
    "request_timeout": Annotated[float | None, typer.Option(help="Limit of one LLM call, in seconds.")],
    "engine_patience": Annotated[
        float | None, typer.Option(help="Seconds that the engine may be silent before the run ends.")
    ],
    "layout": Annotated[
        str | None, typer.Option(help="Order of a prompt's parts: original, instructions-first or append-only.")
    ],
    "k": Annotated[int | None, typer.Option("--k", "--docs-per-hop", help="Documents to retrieve per hop.")],
    "max_hops": Annotated[
        int | None, typer.Option(help="Hops after which the agent answers (default: the experiment's).")
    ],
    "engine_python": EnginePython,
    "model": Model,
    "engine_args": EngineArgs,
    "served_model": Annotated[
        str | None, typer.Option(help="The model of --vllm-endpoint that answers, or an adapter (default: the first).")
    ],
    "tokenizer": Annotated[
        Path | None, typer.Option(help="kv-cache: a model's folder (default: the packaged model's).")
    ],
    "persist_dir": Annotated[
        Path | None, typer.Option(help="Folder of the Chroma store (default: AGRAG_PERSIST_DIR, else our own).")
    ],
    "collection": Annotated[str | None, typer.Option(help="Collection in the store (default: AGRAG_COLLECTION_NAME).")],
    "questions": Annotated[
        Path | None,
        typer.Option(
            help="HotpotQA, 2WikiMultihopQA or MuSiQue, as JSON or JSON lines; indexed unless a store is named."
        ),
    ],
    "app": Annotated[
        str | None,
        typer.Option(help="Measure this app, not our agent: package.module:name of a compiled graph or its factory."),
    ],
    "inputs": Annotated[
        Path | None, typer.Option(help='--app: what it is asked, {"id", "input": {...}} on each line.')
    ],
    "app_option": Annotated[
        list[str] | None, typer.Option("--app-option", help="--app: KEY=VALUE for its factory; repeat it for each.")
    ],
    "prompts": Annotated[
        Path | None, typer.Option(help="kv-cache: take prompts from this file, one JSON object per line.")
    ],
    "prometheus_port": Annotated[
        int | None, typer.Option(help="Port of our own Prometheus on 127.0.0.1 (default: 9090).")
    ],
    "prometheus_retention_size": PrometheusRetentionSize,
    "engine_port": Annotated[int | None, typer.Option(help="Port of an engine that we start (default: 8000).")],
    "launcher": Annotated[
        str | None, typer.Option(help="docker: restart a compose project's service vllm on this host for each arm.")
    ],
    "vllm_endpoint": Annotated[
        str | None, typer.Option(help="Use this running vLLM instead of starting the packaged one.")
    ],
    "replicas": Annotated[
        str | None, typer.Option(help="The servers behind --vllm-endpoint, URL,URL, if it is a front that hides them.")
    ],
    "otlp_endpoint": Annotated[
        str | None,
        typer.Option(help="Export spans over gRPC to this OpenTelemetry collector, such as http://127.0.0.1:4317."),
    ],
    "results": Annotated[Path | None, typer.Option(help="Folder for results (default: results).")],
    "slo": Annotated[
        str | None,
        typer.Option(
            help="Count goodput: seconds that a question and each of its calls may take, any of "
            "ttft=0.5,itl=0.05,tpot=0.05,e2e=5,question=10."
        ),
    ],
    "figures": Annotated[bool | None, typer.Option(help="Draw the figures; the JSON does not depend on it.")],
}
AGENT = ("k", "max_hops")
RUNNING = ("vllm_endpoint", "replicas", "served_model")
STARTED = ("engine_python", "model", "engine_args", "prometheus_retention_size")
STORE = ("persist_dir", "collection", "questions")
APP = ("app", "inputs", "app_option")
PORTS = ("prometheus_port", "engine_port")
SERVERS = (*RUNNING, *STARTED, *STORE, *PORTS)

Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Set an option of the agent, KEY=VALUE: layout; k; max-hops; primed; retrieval (threads, blocking or "
        "batched); retrieval-delay (seconds); prefetch (off, question, last-clue, missing-fact or planted); "
        "draft-accuracy; sleeping; context (all, truncate, importance or progressive); context-budget (tokens).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of tables.")]
Resume = Annotated[str | None, typer.Option(help="Resume this interrupted run, with its settings.")]


def with_settings(*names: str, **own: Any) -> Callable[[Command], Command]:
    """Add options for these settings to a command, which gets those that were given as the dictionary `flags`.

    `names` have their option in `SETTINGS`; `own` annotates settings whose help or type is this command's own.
    """
    options = {name: SETTINGS[name] for name in names} | own

    def decorate(command: Command) -> Command:
        @wraps(command)
        def call(**given: Any) -> None:
            flags = {name: value for name in options if (value := given.pop(name)) is not None}
            command(flags=flags, **given)

        declared = signature(command, eval_str=True).parameters.values()
        kept = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in declared if each.name != "flags"]
        added = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in options.items()
        ]
        call.__signature__ = Signature([*kept, *added])  # type: ignore[attr-defined]
        return call

    return decorate


def give(result: Any, show: Callable[[], object], *, as_json: bool) -> None:
    """Print a result as JSON, for a program to read, or show it to a person."""
    if as_json:
        sys.stdout.write(f"{json.dumps(result, indent=2, default=str)}\n")
    else:
        show()


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show progress on standard error, so that results can be piped."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        yield progress
