"""`hop2rag run` and `hop2rag ask`."""

from __future__ import annotations

import shlex
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
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
    OtlpEndpoint,
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


def given(**flags: Any) -> dict[str, Any]:
    """Return the flags that were given; 0 is given, and refused later by its range."""
    return {name: value for name, value in flags.items() if value is not None}


def run(
    experiment: Annotated[str, typer.Argument(help="The experiment, such as vllm-metrics.")],
    limit: Limit = None,
    max_hops: MaxHops = None,
    k: K = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Questions in flight, or several levels: 1,2,4,8 (default: the experiment's).")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="concurrency: also an open loop of so many questions a second, or several: 0.5,1."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="At least so many questions for each of a level's workers (default: --limit).")
    ] = None,
    contexts: Annotated[
        str | None, typer.Option(help="context-growth: prompt lengths of the sweep in tokens, such as 512,4096,8000.")
    ] = None,
    order: Annotated[str | None, typer.Option(help="AB, or ABBA to balance drift (default: ABBA).")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Order of the prompts' parts: original, instructions-first or append-only.")
    ] = None,
    option: Option = None,
    sample_interval: Annotated[
        int | None,
        typer.Option(help="In ms: of GPU memory in gpu-memory (default: 10), else of vLLM's metrics (default: 100)."),
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(help="docker: restart a compose project's service vllm on this host for each arm.")
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
    engine_port: EnginePort = None,
    results: Annotated[Path | None, typer.Option(help="Where results go (default: results).")] = None,
    request_timeout: Annotated[float | None, typer.Option(help="Limit of one LLM call, in seconds.")] = None,
    engine_patience: Annotated[
        float | None, typer.Option(help="Seconds that the engine may be silent before the run ends.")
    ] = None,
    otlp_endpoint: OtlpEndpoint = None,
    seed: Seed = None,
    record_prompts: Annotated[
        bool, typer.Option(help="Keep the texts of prompts and replies in the run's journal (mode 0600).")
    ] = False,
    replay: Annotated[
        str | None, typer.Option(help="Replay this recorded run: really computed, texts from the record.")
    ] = None,
    from_run: Annotated[
        str | None, typer.Option(help="kv-cache: take the prompts of this run, recorded with --record-prompts.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="kv-cache: take prompts from elsewhere, one JSON object a line.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="kv-cache: a model's folder (default: the packaged model's).")
    ] = None,
    figures: Annotated[bool, typer.Option(help="Draw the figures; the JSON is the same without.")] = True,
    resume: Annotated[str | None, typer.Option(help="Go on with this interrupted run, with its settings.")] = None,
) -> None:
    """Run an experiment: starts what is not up, measures, draws the figures, stops what it started."""
    from workload.experiment import Experiment  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.experiments import EXPERIMENTS  # noqa: PLC0415
    from workload.experiments.arms import read_options  # noqa: PLC0415
    from workload.harness.run import run_experiment, settings_of  # noqa: PLC0415
    from workload.report.headlines import print_finished  # noqa: PLC0415
    from workload.settings import load_settings, with_options  # noqa: PLC0415

    if experiment not in EXPERIMENTS:
        raise UsageError(f"There is no experiment {experiment!r}.", f"There are: {', '.join(EXPERIMENTS)}.")
    chosen = EXPERIMENTS[experiment]
    if isinstance(chosen, Experiment) and (from_run or prompts or tokenizer):
        raise UsageError("--from-run, --prompts and --tokenizer are for kv-cache.", f"Run {experiment} without.")
    if option and not isinstance(chosen, Experiment):
        raise UsageError(f"{experiment} runs every layout itself, without an engine.", "Run it without --option.")
    if (from_run or prompts) and (questions or persist_dir or collection):
        raise UsageError("--from-run and --prompts bring their own prompts.", "Leave --questions and its store out.")
    if not isinstance(chosen, Experiment) and (engine_python or model or engine_args or launcher):
        raise UsageError(f"{experiment} starts no engine.", "Leave out what would start one.")
    owned = (("concurrency", rate and "--rate"), ("concurrency", rounds and "--rounds"))
    for owner, flag in (*owned, ("context-growth", contexts and "--contexts")):
        if flag and experiment != owner:
            raise UsageError(f"{flag} is for {owner}.", f"Run {experiment} without.")
    flags: dict[str, Any] = {
        **{name: getattr(chosen, name) for name in ("limit", "max_hops", "k", "concurrency")},
        **given(limit=limit, max_hops=max_hops, k=k, concurrency=concurrency.split(",") if concurrency else None),
        "rate": rate.split(",") if rate else None,
        "rounds": rounds,
        "contexts": contexts.split(",") if contexts else None,
        "record_prompts": record_prompts,
        "replay": replay,
        "from_run": from_run,
        "prompts": prompts,
        "tokenizer": tokenizer,
        "order": order,
        "layout": layout,
        f"{chosen.sampled}_interval_ms": sample_interval,
        "figures": figures,
        "launcher": launcher,
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
        "engine_patience": engine_patience,
        "otlp_endpoint": otlp_endpoint,
        "seed": seed,
    }
    settings = with_options(load_settings(flags), read_options(option or ()))
    if resume:
        settings = settings_of(chosen.name, settings, resume)
    with progress_bars() as progress:
        finished = run_experiment(chosen, settings, progress, resume)
    print_finished(out, chosen, finished)


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    max_hops: MaxHops = None,
    k: K = None,
    layout: Annotated[str | None, typer.Option(help="original, instructions-first or append-only.")] = None,
    vllm_endpoint: Endpoint = None,
    served_model: ServedModel = None,
    persist_dir: PersistDir = None,
    collection: Collection = None,
    questions: Questions = None,
    engine_port: EnginePort = None,
    otlp_endpoint: OtlpEndpoint = None,
) -> None:
    """Ask one question and print the trace, node by node. Starts the engine if none is up."""
    from workload.harness.ask import ask_once  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415

    settings = load_settings(
        {
            "limit": 1,
            "max_hops": 3,
            "k": 10,
            **given(max_hops=max_hops, k=k),
            "layout": layout,
            "vllm_endpoint": vllm_endpoint,
            "served_model": served_model,
            "persist_dir": persist_dir,
            "collection": collection,
            "questions": questions,
            "engine_port": engine_port,
            "otlp_endpoint": otlp_endpoint,
        }
    )
    with progress_bars() as progress:
        ask_once(question, settings, progress, lambda answered: answered.show(out))
