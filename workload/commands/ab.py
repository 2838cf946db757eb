"""`hop2rag ab` compares any arms with the first; `hop2rag optimize` ranks a short list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workload.commands.options import (
    AGENT,
    APP,
    SERVERS,
    Json,
    Option,
    Resume,
    give,
    out,
    progress_bars,
    with_settings,
)
from workload.errors import UsageError

Live = Annotated[
    bool, typer.Option("--live", help="Do not replay: each arm generates its own replies, so quality is compared too.")
]

# Arms of one profile are adjacent, so that one start of the engine serves them all.
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
# With one question in flight there is nothing to overlap with.
OVERLAP_LIST = ("blocking:retrieval=blocking", "batched:retrieval=batched")
ENGINE_LIST = (
    "prefix-off",
    "chunks-512:chunked-prefill=true,max-num-batched-tokens=512",
    "seqs-4:max-num-seqs=4",
    "pool-256:num-gpu-blocks=256",
)

COMPARISON = ("limit", *AGENT, "order", "interleave", "record_prompts", *SERVERS, "results", "seed", "slo", "figures")
COMPARISON_OWN: dict[str, Any] = {
    "concurrency": Annotated[int | None, typer.Option(help="Questions in flight (default: 1).")],
    "replay": Annotated[str | None, typer.Option(help="Replay this recorded run instead of recording one first.")],
    "tokenizer": Annotated[
        Path | None, typer.Option(help="Folder of the model that counts a context budget (default: the engine's).")
    ],
}


@with_settings(*COMPARISON, *APP, **COMPARISON_OWN)
def ab(
    *,
    flags: dict[str, Any],
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="NAME, or NAME:key=value,... with options of the agent, fields of an engine profile or profile=NAME; "
            "repeat it for each arm. The name of a layout or of a profile alone selects that layout or profile.",
        ),
    ] = None,
    option: Option = None,
    live: Live = False,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Compare arms: paired by question, in ABBA order, on a replayed trajectory, with the gain that theory allows."""
    conduct("ab", {**flags, "arms": tuple(arm or ())}, option, resume, is_live=live, as_json=as_json)


@with_settings(*COMPARISON, **COMPARISON_OWN)
def optimize(
    *,
    flags: dict[str, Any],
    engine: Annotated[
        bool,
        typer.Option(help="Also vary the engine: caching, chunks, batch, pool; each arm starts an engine."),
    ] = False,
    option: Option = None,
    live: Live = False,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Compare the short list of optimisations with the original prompts: a ranked table with intervals.

    With --concurrency above 1 the list also has blocking retrieval and batched embeddings.
    """
    is_shared = flags.get("concurrency", 1) > 1
    arms = (*SHORT_LIST, *(OVERLAP_LIST if is_shared else ()), *(ENGINE_LIST if engine else ()))
    conduct("optimize", {**flags, "arms": arms}, option, resume, is_live=live, as_json=as_json)


def conduct(
    name: str,
    flags: dict[str, Any],
    option: list[str] | None,
    resume: str | None,
    *,
    is_live: bool,
    as_json: bool,
) -> None:
    """Run the comparison and print its results."""
    from workload.experiment import Study  # noqa: PLC0415
    from workload.experiments.ab import LIMIT  # noqa: PLC0415
    from workload.experiments.arms import parse_arms, read_options  # noqa: PLC0415
    from workload.experiments.comparison import compare_arms  # noqa: PLC0415 - `--help` need not load the numeric libraries
    from workload.harness.resume import resume_settings  # noqa: PLC0415
    from workload.report.headlines import print_finished  # noqa: PLC0415
    from workload.settings import load_settings, with_options  # noqa: PLC0415

    if is_live and "replay" in flags:
        raise UsageError("--live does not replay, and --replay names a run to replay.", "Give one of them.")
    defaults = {"limit": LIMIT, "max_hops": Study.max_hops, "k": Study.k}
    settings = with_options(load_settings(defaults | flags), read_options(option or ()))
    if resume:
        settings, _ = resume_settings(name, settings, resume)
    is_ours = settings.app.app is None
    replays = settings if is_live or settings.load.replay or not is_ours else settings.changed(replay="trajectory")
    for each in parse_arms(settings.load.arms, is_ours=is_ours):
        with_options(replays, each.options)  # refused before anything starts
    with progress_bars() as progress:
        experiment, finished = compare_arms(settings, progress, resume, name=name, is_live=is_live)
    give(finished.summary, lambda: print_finished(out, experiment, finished), as_json=as_json)
