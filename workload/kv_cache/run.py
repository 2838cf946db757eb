"""Runs the experiment without an engine: finds the calls, computes and draws the bounds, writes the bundle."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from workload.analysis.ab import Quality, quality
from workload.corpus.default import open_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.corpus.hotpotqa import draw
from workload.corpus.tokenizer import ChatTokenizer, check_tokenizer, load_tokenizer
from workload.engine.endpoint import open_client
from workload.engine.facts import EngineFacts, read_facts
from workload.engine.install import find_installation
from workload.engine.key import read_key
from workload.errors import MissingPartError, UsageError
from workload.harness.run import script_of
from workload.kv_cache.chart_kv_cache import draw_bound, draw_breakdown, draw_heatmap
from workload.kv_cache.prompts_file import read_prompts
from workload.kv_cache.reader import gold_passages
from workload.kv_cache.recorded import read_recorded
from workload.kv_cache.simulated import ORIGIN, REPLAYED, from_gold_facts, from_record, simulate
from workload.kv_cache.source import CUDA_BLOCK_SIZE, CallSource
from workload.kv_cache.summary import summarize, write_tables
from workload.paths import cache_dir
from workload.record.bundle import Bundle, open_bundle
from workload.record.journal import Journal
from workload.record.results import Finished, read_run
from workload.report.finish import write_report
from workload.report.latest_results import publish
from workload.settings import CorpusSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.progress import Progress

    from workload.experiment import OfflineExperiment
    from workload.kv_cache.shapes import KvCacheSummary

    FindCalls = Callable[[Bundle], CallSource]

CHECKED_CHATS = 20
FIGURES = {
    "prefix_overlap_heatmap.png": draw_heatmap,
    "token_breakdown.png": draw_breakdown,
    "reuse_bound.png": draw_bound,
}


def conduct(
    experiment: OfflineExperiment[KvCacheSummary], settings: Settings, progress: Progress, run_id: str | None = None
) -> Finished:
    """Run the experiment, which takes seconds; a run that is resumed, `run_id`, is repeated.

    Raises:
        Hop2RagError: with the exit code of its class; a bundle that was begun then says `aborted` and why.
    """

    @cache
    def tokenizer() -> ChatTokenizer:
        return load_tokenizer(settings.engine.tokenizer or find_installation(cache_dir()).model)

    engine = endpoint_facts(settings)
    find_calls = source_of(settings, tokenizer, (engine and engine.block_size) or CUDA_BLOCK_SIZE, progress)
    bundle = open_bundle(settings.places.results, run_id, experiment.name)
    bundle.start(experiment.name, used(settings).flat())
    try:
        source = find_calls(bundle)
        known = tokenizer_for(source, settings, tokenizer)
        checked = check_sample(source, settings, engine, known) if engine and known else 0
        summary: KvCacheSummary = {
            "experiment": experiment.name,
            "run": bundle.run_id,
            **summarize(source, known),
            "chats_checked_against_the_server": checked,
            "quality": scores(source, bundle),
            "gold": source.gold,
            "wanted": source.wanted,
            "asked": source.asked,
        }
        bundle.write_json("summary.json", summary)
        write_tables(bundle, summary)
        folder = publish(bundle, experiment, summary)
        files = experiment.draw(summary, folder) if settings.places.figures else ()
        bundle.note(status="finished", finished=datetime.now(UTC).isoformat(timespec="seconds"))
        return write_report(experiment, bundle, summary, files)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "aborted"
        bundle.note(status=status, why=str(error) or type(error).__name__)
        raise


def used(settings: Settings) -> Settings:
    """Return the settings, without those of a corpus if the prompts come from a run or a file."""
    if not (settings.load.from_run or settings.corpus.prompts):
        return settings
    unused = CorpusSettings.model_fields.keys() - {"prompts"} | {"chroma_url"}
    return settings.changed(**dict.fromkeys(unused))


def source_of(
    settings: Settings, tokenizer: Callable[[], ChatTokenizer], block_size: int, progress: Progress
) -> FindCalls:
    """Return a function that finds the calls, after checking the run, file or corpus that the settings name."""
    if settings.load.from_run and settings.corpus.prompts:
        raise UsageError("Both --from-run and --prompts are given.", "Name one source of prompts.")
    if settings.load.from_run:
        recorded = read_recorded(settings.places.results, settings.load.from_run)
        return lambda _: recorded
    if settings.corpus.prompts:
        prompts = read_prompts(settings.corpus.prompts, tokenizer, block_size)
        return lambda _: prompts
    script = script_of(settings.load.replay, settings.places.results)
    embedder = MiniLmEmbedder()
    library = tokenizer()
    corpus = open_corpus(settings.corpus, settings.places.chroma_url, embedder, progress)
    asked = draw(corpus.questions, settings.load.limit, settings.load.seed)
    if script is None and (blind := sum(not question.supporting_facts for question in asked)):
        raise UsageError(
            f"{blind} of {len(asked)} questions have no supporting facts, which the simulation needs.",
            "Name questions that have them, or a recorded run with --replay or --from-run.",
        )
    speak, origin = from_gold_facts(asked), ORIGIN
    if script is not None:
        asked = tuple(question for question in asked if question.id in script)
        speak, origin = from_record(script), REPLAYED.format(run=settings.load.replay)
    if not asked:
        raise UsageError(
            f"Run {settings.load.replay} did not record any of these questions.", "Name the questions that it asked."
        )

    def find(bundle: Bundle) -> CallSource:
        bundle.journal.unlink(missing_ok=True)
        bundle.note(corpus=corpus.source_dict())
        with Journal(bundle.journal, settings.flat()) as journal:
            arms = simulate(
                asked,
                speak,
                store=corpus.store,
                embedder=embedder,
                tokenizer=library,
                settings=settings,
                block_size=block_size,
                journal=journal,
                progress=progress,
            )
        return CallSource(
            kind="simulated" if script is None else "replayed",
            origin=origin,
            arms=arms,
            block_size=block_size,
            gold=gold_passages(asked, next(iter(arms.values()))),
            wanted=settings.load.limit,
            asked=len(asked),
        )

    return find


def endpoint_facts(settings: Settings) -> EngineFacts | None:
    """Return the facts of the named server, for its block size and to check our tokenizer; None without a server."""
    if settings.places.vllm_endpoint is None:
        return None
    with open_client(settings.places.vllm_endpoint, key=read_key()) as client:
        return read_facts(client, settings.engine.served_model)


def tokenizer_for(
    source: CallSource, settings: Settings, tokenizer: Callable[[], ChatTokenizer]
) -> ChatTokenizer | None:
    """Return the tokenizer if there are chats to split; a recorded run does not need one."""
    if not any(sent.messages for calls in source.arms.values() for sent in calls):
        return None
    try:
        return tokenizer()
    except MissingPartError:
        if source.kind == "recorded" and settings.engine.tokenizer is None:
            return None
        raise


def check_sample(source: CallSource, settings: Settings, engine: EngineFacts, tokenizer: ChatTokenizer) -> int:
    """Check that the server's tokenizer gives the same ids for evenly drawn chats, and return their number."""
    chats = [sent.messages for calls in source.arms.values() for sent in calls if sent.messages]
    sample = chats[:: max(1, len(chats) // CHECKED_CHATS)][:CHECKED_CHATS]
    with open_client(str(settings.places.vllm_endpoint), key=read_key()) as client:
        return check_tokenizer(tokenizer, client, engine.model, sample)


def scores(source: CallSource, bundle: Bundle) -> dict[str, Quality] | None:
    """Return HotpotQA's metrics of the simulated questions by layout: the limit that retrieval sets."""
    if source.kind != "simulated":
        return None
    data = read_run(bundle.journal, ())
    return {arm: quality(data, arm) for arm in source.arms}


def draw_figures(summary: KvCacheSummary, folder: Path) -> list[Path]:
    """Draw the experiment's pictures into a folder and return their paths."""
    return [paint(summary, folder / name) for name, paint in FIGURES.items()]
