"""Experiment 1: how much of the prompts could a prefix cache serve, by layout of the prompts?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.analysis.wording import ABSENT, interval, number, percent
from workload.experiment import OfflineExperiment
from workload.kv_cache.pool_curves import in_words
from workload.kv_cache.reader import gold_in_words
from workload.kv_cache.run import conduct, draw_figures

if TYPE_CHECKING:
    from workload.kv_cache.shapes import EngineComparison, EvictionStep, KvCacheSummary
    from workload.statistics.paired import Comparison, Interval

SHOWN_SIZES = (16, 32)


def headline(summary: KvCacheSummary) -> list[tuple[str, ...]]:
    """Return a row per arm and block size: the bound, its parts, and the tokens left to compute."""
    sizes = {summary["block_size"], *SHOWN_SIZES}
    rows: list[tuple[str, ...]] = []
    for arm, found in summary["arms"].items():
        for bound in found["bounds"]:
            if bound["block_size"] in sizes:
                tokens = bound["prompt_tokens"]
                computed = (found["prompt_tokens_per_question"], bound["uncached_tokens"] / found["requests"])
                reused = (bound["reusable_tokens"], bound["within_request_tokens"], bound["across_requests_tokens"])
                shares = (percent(part / tokens if tokens else None) for part in reused)
                rows.append((arm, str(bound["block_size"]), *shares, *map(number, computed)))
    return rows


def verdicts(summary: KvCacheSummary) -> list[str]:
    """Return what a reader must know before using the numbers."""
    arms, size = summary["arms"], summary["block_size"]
    shares = {
        arm: next(bound["share"] for bound in found["bounds"] if bound["block_size"] == size)
        for arm, found in arms.items()
    }
    most = ", ".join(f"{arm} {percent(share)}" for arm, share in shares.items())
    sentences = [f"{summary['origin']}. The reuse bound, as a share of all prompt tokens: {most}."]
    for arm, found in arms.items():
        bound = next(bound for bound in found["bounds"] if bound["block_size"] == size)
        sentences.append(
            f"{arm}: at most {percent(bound['share'])} of {number(found['prompt_tokens_per_question'])} prompt tokens "
            f"per question can be reused at block size {size}; {number(found['uncached_tokens_per_question'])} must be "
            f"computed ({_ci(found['uncached_tokens_per_question_ci'])})."
        )
    sentences += [_compared(summary, arm, row) for arm, row in summary["uncached_tokens_compared"].items()]
    sentences += [_pools(arm, found["eviction"]) for arm, found in arms.items()]
    sentences += [said for arm, found in arms.items() if (said := in_words(arm, found))]
    sentences += [_engine(arm, found["engine"], size) for arm, found in arms.items() if found["engine"]]
    if checked := summary["chats_checked_against_the_server"]:
        sentences.append(f"The server's tokenizer gave the same ids for {checked} of {checked} prompts.")
    if summary["is_simulated"] and (gold := summary.get("gold")):
        sentences += gold_in_words(gold)
    if (summary.get("asked") or 0) < (summary.get("wanted") or 0):
        sentences.append(
            f"Only {summary['asked']} of the {summary['wanted']} requested questions were asked: "
            + ("the recorded run has no others." if summary["source"] == "replayed" else "there are no others.")
        )
    sentences.append(
        "Reuse within a request and across requests overlaps, so the two can add up to more than the bound."
    )
    return sentences


def _ci(bounds: Interval | None) -> str:
    return interval(bounds).strip()


def _compared(summary: KvCacheSummary, arm: str, row: Comparison) -> str:
    first, found = summary["compared_with"], summary["arms"]
    here, there = (found[each]["prompt_tokens_per_question"] for each in (arm, first))
    longer = f"{here / there:.2f} times as long" if there else f"of {number(here)} tokens against 0"
    change = f"{percent(row['change'], signed=True)} ({interval(row['change_ci'], percent).strip()})"
    return f"{arm} against {first}: prompts {longer}, tokens to compute {change} (median over {row['n']} questions)."


def _pools(arm: str, steps: list[EvictionStep]) -> str:
    """Return what the pool size costs with the most questions in flight, where it matters most."""
    steps = [step for step in steps if step["in_flight"] == steps[-1]["in_flight"]]
    least, most = steps[0], steps[-1]
    order = f"{least['in_flight']} questions in flight" if least["in_flight"] else "calls at their recorded times"
    return (
        f"{arm}, {order}: a pool of {least['pool_blocks']:,} blocks leaves {percent(least['share'])} reusable, "
        f"one of {most['pool_blocks']:,} evicts nothing."
    )


def _engine(arm: str, engine: EngineComparison, size: int) -> str:
    pool = f"{engine['num_gpu_blocks']:,} blocks" if engine["num_gpu_blocks"] else ABSENT
    equal = f"{engine['equal_to_run']} of {engine['compared_calls']} calls"
    run = f"the bound equals the one computed during the run in {equal}"
    if engine["prefix_caching"] is False:
        return f"{arm}: {run} (block size {size}); caching was off."
    served = "the share that it served is not known"
    if engine["cached_share"] is not None:
        share = percent(engine["cached_share"])
        served = f"it served exactly the bound in {engine['equal_to_engine']} of them, and {share} of all tokens"
    return f"{arm}: {run}; the engine's pool ({pool}) allows {percent(engine['modelled_share'])}; {served}."


KV_CACHE = OfflineExperiment(
    name="kv-cache",
    folder="kv_cache",
    title="How many prompt tokens could a prefix cache serve?",
    conduct=conduct,
    draw=draw_figures,
    headline=headline,
    columns=("prompts", "block", "reusable", "within\nrequest", "from\nothers", "prompt\ntokens", "to\ncompute"),
    verdicts=verdicts,
    limit=20,
    summary_file="prefix_overlap_analysis.json",
)
