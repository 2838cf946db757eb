"""Cached tokens that a response omits because they are 0.

vLLM 0.22.1 omits `usage.prompt_tokens_details` from a response whose cached tokens are 0 (seen on an H200: of 2,996
calls, the 7 that came first under their cache salt). Absent is not zero, so a second source must confirm it: with
caching off, nothing is served from the cache; with caching on, the other calls must account for the engine's counter.
"""

from __future__ import annotations

from dataclasses import replace

from workload.promql.vllm_metrics import HITS
from workload.record.results import PLACE, Measured, Row, RunData, total


def settle(data: RunData) -> RunData:
    """Set `cached_tokens` to 0 where a response omitted it and the engine's counter leaves no hits for that call.

    Such a call has `is_inferred`. In every other window the value stays None.
    """
    windows = {(w.arm, w.block, w.point, w.segment): part for part in data.measured for w in (part.window,)}
    calls = {place: [call for call in data.calls if _place(call) == place] for place in windows}
    settled = {place for place, part in windows.items() if _leaves_none(part, calls[place])}
    return replace(data, calls=[_settled(call) if _place(call) in settled else call for call in data.calls])


def _place(call: Row) -> tuple[object, ...]:
    return tuple(call[name] for name in PLACE)


def _omits_cached(call: Row) -> bool:
    # a response without any usage did not omit a 0: it reported nothing
    return call["outcome"] == "ok" and call["cached_tokens"] is None and call["prompt_tokens"] is not None


def _leaves_none(part: Measured, calls: list[Row]) -> bool:
    if part.engine["prefix_caching"] is False:
        return True
    reported = [call for call in calls if call["outcome"] == "ok" and not _omits_cached(call)]
    hits = part.counters.get(HITS)
    return hits is not None and bool(reported) and total(reported, "cached_tokens") == hits


def _settled(call: Row) -> Row:
    return {**call, "cached_tokens": 0, "is_inferred": True} if _omits_cached(call) else call
