"""Cached tokens that a response does not tell although the server can know them.

vLLM 0.22.1 leaves `usage.prompt_tokens_details` out of a response whose cached tokens are 0 (seen on an H200: of 2,996
calls the 7 that came first under their cache salt). Absent is not zero, so a second witness has to say so: with caching
off nothing is served from the cache; with caching on, the engine's counter must be used up by the calls that were told.
"""

from __future__ import annotations

from dataclasses import replace

from workload.promql.vllm_metrics import HITS
from workload.record.results import PLACE, Measured, Row, RunData, total


def settle(data: RunData) -> RunData:
    """Return the run with 0 cached tokens for each untold call of a window whose other witness leaves it none.

    Such a call has `is_inferred`. In every other window an untold call stays None.
    """
    windows = {(w.arm, w.block, w.point, w.segment): part for part in data.measured for w in (part.window,)}
    calls = {place: [call for call in data.calls if _place(call) == place] for place in windows}
    settled = {place for place, part in windows.items() if _leaves_none(part, calls[place])}
    return replace(data, calls=[_settled(call) if _place(call) in settled else call for call in data.calls])


def _place(call: Row) -> tuple[object, ...]:
    return tuple(call[name] for name in PLACE)


def _is_untold(call: Row) -> bool:
    # a response without any usage has not left out a 0, it has told nothing
    return call["outcome"] == "ok" and call["cached_tokens"] is None and call["prompt_tokens"] is not None


def _leaves_none(part: Measured, calls: list[Row]) -> bool:
    if part.engine["prefix_caching"] is False:
        return True
    told = [call for call in calls if call["outcome"] == "ok" and not _is_untold(call)]
    hits = part.counters.get(HITS)
    return hits is not None and bool(told) and total(told, "cached_tokens") == hits


def _settled(call: Row) -> Row:
    return {**call, "cached_tokens": 0, "is_inferred": True} if _is_untold(call) else call
