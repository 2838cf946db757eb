"""`hop2rag ab`: any arms against the first of them; `hop2rag optimize`: the short list, ranked."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from workload.commands.options import (
    Collection,
    Endpoint,
    EngineArgs,
    EnginePort,
    EnginePython,
    K,
    Limit,
    MaxHops,
    Model,
    Option,
    PersistDir,
    PrometheusPort,
    PrometheusRetentionSize,
    Questions,
    Seed,
    ServedModel,
    out,
    progress_bars,
)
from workload.errors import UsageError

Live = Annotated[bool, typer.Option("--live", help="Replay nothing: each arm answers for itself; compares quality.")]
Replay = Annotated[str | None, typer.Option(help="Replay this recorded run instead of recording one first.")]
Resume = Annotated[str | None, typer.Option(help="Go on with this interrupted run, with its settings.")]
Order = Annotated[str | None, typer.Option(help="AB, or ABBA to balance drift (default: ABBA).")]
Interleave = Annotated[
    int | None,
    typer.Option(
        help="Questions that an arm answers before it is the next arm's turn (default: 3 for each in flight; "
        "all where arms need engines of their own)."
    ),
]
Concurrency = Annotated[int | None, typer.Option(help="Questions in flight (default: 1).")]
Results = Annotated[Path | None, typer.Option(help="Where results go (default: results).")]
Tokenizer = Annotated[
    Path | None, typer.Option(help="A model's folder, to count a context budget by (default: the engine's model).")
]
Figures = Annotated[bool, typer.Option(help="Draw the figure; the JSON is the same without.")]

# Arms of one profile stand together, so that in a block of ABBA one start of the engine serves all of them.
SHORT_LIST = (
    "original",
    "instructions-first",
    "append-only",
    "primed:layout=append-only,primed=true",
    "prefetch:prefetch=last-clue",
    "truncate:context=truncate,context-budget=256",
    "importance:context=importance,context-budget=256",
    "progressive:context=progressive,context-budget=256",
)
# With one question in flight there is nobody to overlap with.
OVERLAP_LIST = ("blocking:retrieval=blocking", "batched:retrieval=batched")
ENGINE_LIST = (
    "prefix-off",
    "chunks-512:chunked-prefill=true,max-num-batched-tokens=512",
    "seqs-4:max-num-seqs=4",
    "pool-256:num-gpu-blocks=256",
)


def ab(
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="NAME, or NAME:key=value,... with options of the agent, fields of an engine profile or profile=NAME; "
            "give it twice or more. The name of a layout or of a profile alone means that.",
        ),
    ] = None,
    option: Option = None,
    limit: Limit = None,
    max_hops: MaxHops = None,
    k: K = None,
    concurrency: Concurrency = None,
    order: Order = None,
    interleave: Interleave = None,
    live: Live = False,
    replay: Replay = None,
    vllm_endpoint: Endpoint = None,
    served_model: ServedModel = None,
    engine_python: EnginePython = None,
    model: Model = None,
    engine_args: EngineArgs = None,
    tokenizer: Tokenizer = None,
    persist_dir: PersistDir = None,
    collection: Collection = None,
    questions: Questions = None,
    prometheus_port: PrometheusPort = None,
    prometheus_retention_size: PrometheusRetentionSize = None,
    engine_port: EnginePort = None,
    results: Results = None,
    seed: Seed = None,
    figures: Figures = True,
    resume: Resume = None,
) -> None:
    """Compare arms: paired by question, ABBA, on a replayed trajectory, beside the gain that theory allows."""
    flags: dict[str, Any] = {
        "limit": limit,
        "max_hops": max_hops,
        "k": k,
        "concurrency": (concurrency,) if concurrency is not None else None,
        "order": order,
        "interleave": interleave,
        "replay": replay,
        "vllm_endpoint": vllm_endpoint,
        "served_model": served_model,
        "engine_python": engine_python,
        "model": model,
        "engine_args": shlex.split(engine_args) if engine_args else None,
        "tokenizer": tokenizer,
        "persist_dir": persist_dir,
        "collection": collection,
        "questions": questions,
        "prometheus_port": prometheus_port,
        "prometheus_retention_size": prometheus_retention_size,
        "engine_port": engine_port,
        "results": results,
        "seed": seed,
        "figures": figures,
    }
    conduct("ab", {**flags, "arms": tuple(arm or ())}, option, resume, is_live=live)


def optimize(
    engine: Annotated[
        bool,
        typer.Option(help="Also the engine's knobs: caching, chunks, batch, pool; each starts an engine."),
    ] = False,
    option: Option = None,
    limit: Limit = None,
    max_hops: MaxHops = None,
    k: K = None,
    concurrency: Concurrency = None,
    order: Order = None,
    interleave: Interleave = None,
    live: Live = False,
    replay: Replay = None,
    vllm_endpoint: Endpoint = None,
    served_model: ServedModel = None,
    engine_python: EnginePython = None,
    model: Model = None,
    engine_args: EngineArgs = None,
    tokenizer: Tokenizer = None,
    persist_dir: PersistDir = None,
    collection: Collection = None,
    questions: Questions = None,
    prometheus_port: PrometheusPort = None,
    prometheus_retention_size: PrometheusRetentionSize = None,
    engine_port: EnginePort = None,
    results: Results = None,
    seed: Seed = None,
    figures: Figures = True,
    resume: Resume = None,
) -> None:
    """Compare the short list of optimisations with the plan's original: a ranked table with intervals, nulls too.

    With --concurrency above 1 the list also holds blocking retrieval and batched embeddings.
    """
    flags: dict[str, Any] = {
        "limit": limit,
        "max_hops": max_hops,
        "k": k,
        "concurrency": (concurrency,) if concurrency is not None else None,
        "order": order,
        "interleave": interleave,
        "replay": replay,
        "vllm_endpoint": vllm_endpoint,
        "served_model": served_model,
        "engine_python": engine_python,
        "model": model,
        "engine_args": shlex.split(engine_args) if engine_args else None,
        "tokenizer": tokenizer,
        "persist_dir": persist_dir,
        "collection": collection,
        "questions": questions,
        "prometheus_port": prometheus_port,
        "prometheus_retention_size": prometheus_retention_size,
        "engine_port": engine_port,
        "results": results,
        "seed": seed,
        "figures": figures,
    }
    is_shared = (concurrency or 1) > 1
    arms = (*SHORT_LIST, *(OVERLAP_LIST if is_shared else ()), *(ENGINE_LIST if engine else ()))
    conduct("optimize", {**flags, "arms": arms}, option, resume, is_live=live)


def conduct(name: str, flags: dict[str, Any], option: list[str] | None, resume: str | None, *, is_live: bool) -> None:
    """Run the comparison that the flags ask for and print what it found."""
    from workload.experiments.ab import LIMIT, MAX_HOPS, K  # noqa: PLC0415
    from workload.experiments.arms import parse_arms, read_options  # noqa: PLC0415
    from workload.experiments.comparison import compare_arms  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.harness.run import settings_of  # noqa: PLC0415
    from workload.report.headlines import print_finished  # noqa: PLC0415
    from workload.settings import load_settings, with_options  # noqa: PLC0415

    if is_live and flags["replay"]:
        raise UsageError("--live replays nothing, and --replay names a run to replay.", "Give one of them.")
    given = {key: value for key, value in flags.items() if value is not None}
    settings = with_options(
        load_settings({"limit": LIMIT, "max_hops": MAX_HOPS, "k": K, **given}), read_options(option or ())
    )
    settings = settings_of(name, settings, resume) if resume else settings
    replays = settings if is_live or settings.load.replay else settings.changed(replay="trajectory")
    for each in parse_arms(settings.load.arms):
        with_options(replays, each.options)  # refused before anything starts
    with progress_bars() as progress:
        experiment, finished = compare_arms(settings, progress, resume, name=name, is_live=is_live)
    print_finished(out, experiment, finished)
