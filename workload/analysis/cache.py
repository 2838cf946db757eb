"""The prefix cache hit rate from three independent sources: the engine's counters, the responses, and theory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from workload.analysis.token_fates import WORDS, cause_of
from workload.analysis.wording import ABSENT
from workload.promql.vllm_metrics import HITS, QUERIES
from workload.record.results import Row, RunData, overlaps, total

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tokens(TypedDict, total=False):
    """Tokens by one source: the engine's counters (`hits` of `queries`), the responses, or the reuse bound."""

    calls: int
    hits: float | None
    queries: float | None
    prompt_tokens: float | None
    cached_tokens: float | None
    reusable_tokens: float | None
    hit_rate: float | None


class HitRates(TypedDict):
    """An arm's prefix cache hit rate by each source, in tokens.

    Only calls inside closed windows count, because an interrupted window has no counters.

    Attributes:
        agree_to_the_token: whether counters and responses are equal. None with caching off (vLLM then counts nothing),
            if one of them is missing, or if `unknown` explains the difference.
        unknown: calls that were cut: the engine may have counted their tokens, but no response reported them.
        besides: other calls in the windows, such as a warm-up after a restart.
        inferred_calls: calls without reported cached tokens that count as 0; see `workload.analysis.cache_inferred`.
        differences: every call whose cached tokens are not the bound.
    """

    prefix_caching: str
    calls: int
    prompt_tokens: int | None
    counters: Tokens
    responses: Tokens
    bound: Tokens
    agree_to_the_token: bool | None
    unknown: Tokens
    besides: Tokens
    inferred_calls: int
    calls_equal_to_bound: int | None
    differences: list[Row]


def hit_rates(data: RunData, arm: str) -> HitRates:
    """Return an arm's hit rate as the engine counted it, as the responses reported it, and as theory bounds it."""
    calls = [call for call in data.calls_of(arm) if call["is_windowed"]]
    uncounted = in_windows(data, arm)
    besides = [call for call in uncounted if call["outcome"] == "ok"]
    cut = [row for row in data.calls if row["arm"] == arm and row["is_windowed"] and row["outcome"] != "ok"]
    cut += [call for call in uncounted if call["outcome"] != "ok"]
    other_prompt, other_cached = (total(besides, f"{name}_tokens") for name in ("prompt", "cached"))
    prompt, cached, reusable = (total(calls, f"{name}_tokens") for name in ("prompt", "cached", "reusable"))
    hits, queries = data.counter(arm, HITS), data.counter(arm, QUERIES)
    state = _caching(data, arm)
    is_on = state == "on"
    # With caching off the engine counts nothing, so subtracting the responses' tokens would leave less than zero.
    cached_left = _left(hits, cached, other_cached) if is_on else None
    prompt_left = _left(queries, prompt, other_prompt) if is_on else None
    different = [call for call in calls if not _equals_bound(call)] if is_on else []
    return {
        "prefix_caching": state,
        "calls": len(calls),
        "prompt_tokens": prompt,
        "counters": {"hits": hits, "queries": queries, "hit_rate": _ratio(hits, queries)},
        "responses": {"cached_tokens": cached, "hit_rate": _ratio(cached, prompt) if is_on else None},
        "bound": {"reusable_tokens": reusable, "hit_rate": _ratio(reusable, prompt)},
        "agree_to_the_token": _agree(cached_left, prompt_left, len(cut)),
        "unknown": {"calls": len(cut), "cached_tokens": cached_left, "prompt_tokens": prompt_left},
        "besides": {"calls": len(besides), "prompt_tokens": other_prompt, "cached_tokens": other_cached},
        "inferred_calls": sum("is_inferred" in call for call in calls),
        "calls_equal_to_bound": len(calls) - len(different) if is_on else None,
        "differences": [_difference(call, [*calls, *cut, *besides]) for call in different],
    }


def in_windows(data: RunData, arm: str) -> list[Row]:
    """Return the uncounted calls that ran, at least in part, in a closed window of an arm."""
    windows = [part.window for part in data.measured if part.window.arm == arm]
    return [row for row in data.uncounted if any(overlaps(row, window.start, window.end) for window in windows)]


def _left(counted: float | None, *reported: float | None) -> float | None:
    """Return the tokens that the engine counted and no response reported; None if a number is missing."""
    known = [value for value in reported if value is not None]
    return None if counted is None or len(known) < len(reported) else counted - sum(known)


def _agree(cached: float | None, prompt: float | None, cut: int) -> bool | None:
    """Return whether no token is left over; None if a number is missing or calls that were cut explain the rest."""
    if cached is None or prompt is None:
        return None
    if (cached, prompt) == (0, 0):
        return True
    return None if cut and 0 <= cached <= prompt else False


def _caching(data: RunData, arm: str) -> str:
    """Return in words whether caching was on, as the engine reported in all windows of an arm."""
    states = {part.engine["prefix_caching"] for part in data.measured if part.window.arm == arm}
    return {(True,): "on", (False,): "caching off"}.get(tuple(states), ABSENT)


def _equals_bound(call: Row) -> bool:
    return call["cached_tokens"] is not None and call["cached_tokens"] == call["reusable_tokens"]


def _difference(call: Row, calls: Sequence[Row]) -> Row:
    cached, reusable = call["cached_tokens"], call["reusable_tokens"]
    overlapping = any(
        other is not call
        and other["started_at"] < call["started_at"] + (call["ttft_seconds"] or 0)
        and call["started_at"] < other["started_at"] + (other["ttft_seconds"] or 0)
        for other in calls
    )
    if cached is None or reusable is None:
        cause = "not reported by the server"
    elif (fates := call.get("fates")) and (found := cause_of(fates)) not in {None, "unknown"}:
        cause = f"tokens {WORDS[str(found)]}"
    elif overlapping:
        cause = "arrival order: another call was in prefill at the same time"
    elif cached < reusable:
        cause = "unknown: no KV cache events say whether its blocks were evicted"
    else:
        cause = "unknown: more cached than the bound allows"
    columns = ("question_id", "node", "hop", "prompt_tokens", "cached_tokens", "reusable_tokens")
    return {**{key: call[key] for key in columns}, "cause": cause}


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
