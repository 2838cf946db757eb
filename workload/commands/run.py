"""`hop2rag run` and `hop2rag ask`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workload.commands.options import (
    AGENT,
    APP,
    RUNNING,
    SERVERS,
    STORE,
    Json,
    Option,
    Resume,
    give,
    out,
    progress_bars,
    with_settings,
)
from workload.errors import UsageError

DEFAULTS = {"limit": 1, "max_hops": 3, "k": 10}
"""Of the commands that run no experiment."""


@with_settings(
    *("limit", *AGENT, "concurrency", "rate", "rounds", "contexts", "order", "layout", "launcher", *SERVERS),
    *("results", "request_timeout", "engine_patience", "otlp_endpoint", "seed", "record_prompts"),
    *("replay", "from_run", "prompts", "tokenizer", "slo", "figures", *APP),
)
def run(
    *,
    flags: dict[str, Any],
    experiment: Annotated[str, typer.Argument(help="The experiment, such as vllm-metrics.")],
    option: Option = None,
    sample_interval: Annotated[
        int | None,
        typer.Option(help="In ms: of GPU memory in gpu-memory (default: 10), else of vLLM's metrics (default: 100)."),
    ] = None,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Run an experiment: start what is not up, measure, draw the figures, stop what was started."""
    from workload.experiment import Experiment  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.experiments import EXPERIMENTS  # noqa: PLC0415
    from workload.experiments.arms import read_options  # noqa: PLC0415
    from workload.harness.resume import resume_settings  # noqa: PLC0415
    from workload.harness.run import run_experiment  # noqa: PLC0415
    from workload.report.headlines import print_finished  # noqa: PLC0415
    from workload.settings import load_settings, with_options  # noqa: PLC0415

    if experiment not in EXPERIMENTS:
        raise UsageError(f"There is no experiment {experiment!r}.", f"There are: {', '.join(EXPERIMENTS)}.")
    chosen = EXPERIMENTS[experiment]
    starts_engine = isinstance(chosen, Experiment)
    if starts_engine and flags.keys() & {"from_run", "prompts", "tokenizer"}:
        raise UsageError("--from-run, --prompts and --tokenizer are for kv-cache.", f"Run {experiment} without.")
    if option and not starts_engine:
        raise UsageError(f"{experiment} runs every layout itself, without an engine.", "Run it without --option.")
    if flags.keys() & {"from_run", "prompts"} and flags.keys() & {*STORE}:
        raise UsageError("--from-run and --prompts bring their own prompts.", "Leave --questions and its store out.")
    if not starts_engine and flags.keys() & {"engine_python", "model", "engine_args", "launcher"}:
        raise UsageError(f"{experiment} starts no engine.", "Leave out the options that start one.")
    refuse_misplaced(experiment, flags)
    defaults = {name: getattr(chosen, name) for name in ("limit", "max_hops", "k", "concurrency")}
    if sample_interval is not None:
        flags[f"{chosen.sampled}_interval_ms"] = sample_interval
    settings = with_options(load_settings(defaults | flags), read_options(option or ()))
    if resume:
        settings, _ = resume_settings(chosen.name, settings, resume)
    with progress_bars() as progress:
        finished = run_experiment(chosen, settings, progress, resume)
    give(finished.summary, lambda: print_finished(out, chosen, finished), as_json=as_json)


def refuse_misplaced(experiment: str, flags: dict[str, Any]) -> None:
    """Refuse options of another experiment, and an app where none can be measured.

    Raises:
        UsageError: it names the option and the experiment.
    """
    from workload.experiments.suite import NOT_FOR_APPS  # noqa: PLC0415

    if flags.keys() & {*APP} and experiment in NOT_FOR_APPS:
        raise UsageError(f"{experiment} {NOT_FOR_APPS[experiment]}.", "Run it without --app.")
    for name, owner in (("rate", "concurrency"), ("rounds", "concurrency"), ("contexts", "context-growth")):
        if name in flags and experiment != owner:
            raise UsageError(f"--{name} is for {owner}.", f"Run {experiment} without.")


@with_settings(*AGENT, "layout", *RUNNING, *STORE, "engine_port", "otlp_endpoint")
def ask(flags: dict[str, Any], question: Annotated[str, typer.Argument(help="The question.")]) -> None:
    """Ask one question and print the trace, node by node. Starts the engine if none is up."""
    from workload.harness.ask import ask_once  # noqa: PLC0415
    from workload.settings import load_settings  # noqa: PLC0415

    settings = load_settings(DEFAULTS | flags)
    with progress_bars() as progress:
        ask_once(question, settings, progress, lambda answered: answered.show(out))
