"""The reuse bound of many calls: by call, by question, and in a finite pool."""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import fmean
from typing import TYPE_CHECKING

from workload.theory.eviction import hashed, replay, smallest_pool
from workload.theory.reuse_bound import PrefixIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.kv_cache.shapes import EngineComparison, EvictionStep
    from workload.kv_cache.source import SentCall
    from workload.record.manifest import EngineEntry


def reusable_by_call(calls: Iterable[SentCall], block_size: int) -> list[int]:
    """Return the reusable tokens of each call, in the order of arrival; nothing is evicted."""
    index, found = PrefixIndex(block_size), []
    for sent in calls:
        call = sent.call
        found.append(index.observe(call.prompt, call.salt))
        index.observe_output(call.prompt, call.output, call.salt)
    return found


def uncached_by_question(calls: Sequence[SentCall], reusable: Sequence[int]) -> dict[str, float]:
    """Return the prompt tokens that must be computed per question, averaged over its repetitions."""
    asked: dict[tuple[str, str], int] = defaultdict(int)
    for sent, tokens in zip(calls, reusable, strict=True):
        asked[sent.call.question, sent.call.salt] += len(sent.call.prompt) - tokens
    by_question: dict[str, list[int]] = defaultdict(list)
    for (question, _), tokens in asked.items():
        by_question[question].append(tokens)
    return {question: fmean(values) for question, values in by_question.items()}


def in_pool(calls: Sequence[SentCall], block_size: int, blocks: int | None) -> tuple[float | None, int]:
    """Return the reusable share of all prompt tokens in a pool of `blocks` blocks, and the blocks evicted.

    Each start of an engine and each load begins with an empty pool. The share is None if a call does not fit, or
    without prompt tokens.
    """
    reusable = evicted = 0
    for group in groups(calls):
        hashes = [hashed(s.call.prompt, s.call.output, block_size, s.call.salt, s.span) for s in group]
        if blocks is not None and blocks < smallest_pool(hashes, block_size):
            return None, 0
        done = replay(hashes, block_size, blocks)
        reusable += sum(done.reusable_tokens)
        evicted += done.evicted_blocks
    total = sum(len(sent.call.prompt) for sent in calls)
    return reusable / total if total else None, evicted


def interleaved(calls: Sequence[SentCall], in_flight: int) -> list[SentCall]:
    """Return calls in the order of `in_flight` concurrent questions if all calls take equally long.

    Each question sends its next call when its last one has ended; a new question starts when another one has ended.
    """
    questions: dict[tuple[str, str], deque[SentCall]] = defaultdict(deque)
    for sent in calls:
        questions[sent.call.question, sent.call.salt].append(sent)
    waiting = deque(questions.values())
    running: deque[deque[SentCall]] = deque()
    order = []
    while waiting or running:
        while waiting and len(running) < in_flight:
            running.append(waiting.popleft())
        question = running.popleft()
        order.append(question.popleft())
        if question:
            running.append(question)
    return order


def eviction_steps(calls: Sequence[SentCall], block_size: int, in_flight: int | None = None) -> list[EvictionStep]:
    """Return the reusable share in pools of doubling size, from one that fits each call to one without evictions.

    The calls keep their order, or `in_flight` questions are interleaved.
    """
    calls = interleaved(calls, in_flight) if in_flight else calls
    hashes = [hashed(sent.call.prompt, sent.call.output, block_size) for sent in calls]
    blocks = 1 << (smallest_pool(hashes, block_size) - 1).bit_length()
    steps: list[EvictionStep] = []
    while not steps or steps[-1]["evicted_blocks"]:
        share, evicted = in_pool(calls, block_size, blocks)
        steps.append({"in_flight": in_flight, "pool_blocks": blocks, "share": share, "evicted_blocks": evicted})
        blocks *= 2
    return steps


def compared_with_engine(
    calls: Sequence[SentCall], reusable: Sequence[int], block_size: int, engine: EngineEntry | None
) -> EngineComparison | None:
    """Return a recorded run's measurements and the bounds computed from its prompts; None for any other source."""
    if engine is None:
        return None
    known = [
        (s.reusable_tokens, ours) for s, ours in zip(calls, reusable, strict=True) if s.reusable_tokens is not None
    ]
    cached = [sent.cached_tokens for sent in calls]
    served = sum(theirs == ours for theirs, ours in zip(cached, reusable, strict=True))
    is_known = engine.prefix_caching and None not in cached
    total = sum(len(sent.call.prompt) for sent in calls)
    return {
        "prefix_caching": engine.prefix_caching,
        "compared_calls": len(known),
        "equal_to_run": sum(theirs == ours for theirs, ours in known),
        "equal_to_engine": served if is_known else None,
        "cached_share": sum(filter(None, cached)) / total if is_known and total else None,
        "num_gpu_blocks": engine.num_gpu_blocks,
        "kv_block_bytes": (engine.model_extra or {}).get("kv_block_bytes"),
        "modelled_share": in_pool(calls, block_size, engine.num_gpu_blocks)[0] if engine.num_gpu_blocks else None,
    }


def groups(calls: Iterable[SentCall]) -> Iterable[list[SentCall]]:
    """Return the calls that share a cache salt, of each salt: they begin with an empty pool."""
    found: dict[str, list[SentCall]] = defaultdict(list)
    for sent in calls:
        found[sent.call.salt].append(sent)
    return found.values()
