"""The prefix cache's hit rate from three witnesses that never speak to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.analysis.wording import ABSENT
from workload.promql.vllm_metrics import HITS, QUERIES
from workload.record.results import overlaps, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.record.results import Row, RunData


def witnesses(data: RunData, arm: str) -> dict[str, Any]:
    """Return an arm's hit rate as the engine counted it, as its responses told it, and as theory bounds it.

    Tokens throughout. `agree_to_the_token` says whether counters and responses are equal; it is None with caching off,
    where vLLM counts nothing, where one of them was not told, and where `unknown` accounts for the difference: calls
    that were cut, whose tokens the engine may have counted and no response told. Only calls inside closed windows are
    taken: an interrupted window has no counters. What the engine was sent besides, such as a warm-up after a restart,
    is in `besides`. `inferred_calls` were told no cached tokens and count as 0, see `workload.analysis.cache_inferred`.
    `differences` lists every call whose cached tokens are not the bound.
    """
    calls = [call for call in data.calls_of(arm) if call["is_windowed"]]
    sent_besides = in_windows(data, arm)
    besides = [call for call in sent_besides if call["outcome"] == "ok"]
    cut = [row for row in data.calls if row["arm"] == arm and row["is_windowed"] and row["outcome"] != "ok"]
    cut += [call for call in sent_besides if call["outcome"] != "ok"]
    extra = {name: total(besides, f"{name}_tokens") for name in ("prompt", "cached")}
    prompt, cached, reusable = (total(calls, f"{name}_tokens") for name in ("prompt", "cached", "reusable"))
    hits, queries = data.counter(arm, HITS), data.counter(arm, QUERIES)
    state = _caching(data, arm)
    is_on = state == "on"
    told = {"cached_tokens": (hits, cached, extra["cached"]), "prompt_tokens": (queries, prompt, extra["prompt"])}
    # with caching off the engine counts nothing: the responses' tokens would be left of its zeros, below zero
    left = {name: _left(*tokens) if is_on else None for name, tokens in told.items()}
    different = [call for call in calls if not _equals_bound(call)] if is_on else []
    return {
        "prefix_caching": state,
        "calls": len(calls),
        "prompt_tokens": prompt,
        "counters": {"hits": hits, "queries": queries, "hit_rate": _ratio(hits, queries)},
        "responses": {"cached_tokens": cached, "hit_rate": _ratio(cached, prompt) if is_on else None},
        "bound": {"reusable_tokens": reusable, "hit_rate": _ratio(reusable, prompt)},
        "agree_to_the_token": _agree(left["cached_tokens"], left["prompt_tokens"], len(cut)),
        "unknown": {"calls": len(cut), **left},
        "besides": {"calls": len(besides), **{f"{name}_tokens": tokens for name, tokens in extra.items()}},
        "inferred_calls": sum("is_inferred" in call for call in calls),
        "calls_equal_to_bound": len(calls) - len(different) if is_on else None,
        "differences": [_difference(call, [*calls, *cut, *besides]) for call in different],
    }


def in_windows(data: RunData, arm: str) -> list[Row]:
    """Return the calls that do not count and yet ran, at least in part, in a closed window of an arm."""
    windows = [part.window for part in data.measured if part.window.arm == arm]
    return [row for row in data.uncounted if any(overlaps(row, window.start, window.end) for window in windows)]


def _left(counted: float | None, *told: float | None) -> float | None:
    """Return the tokens that the engine counted and no response told; None where one of them is absent."""
    known = [value for value in told if value is not None]
    return None if counted is None or len(known) < len(told) else counted - sum(known)


def _agree(cached: float | None, prompt: float | None, cut: int) -> bool | None:
    """Return whether no token is left; None where one is absent, or where calls that were cut can be what is left."""
    if cached is None or prompt is None:
        return None
    if (cached, prompt) == (0, 0):
        return True
    return None if cut and 0 <= cached <= prompt else False


def _caching(data: RunData, arm: str) -> str:
    """Return what the engine said of itself in all windows of an arm, in words."""
    told = {part.engine["prefix_caching"] for part in data.measured if part.window.arm == arm}
    return {(True,): "on", (False,): "caching off"}.get(tuple(told), ABSENT)


def _equals_bound(call: Row) -> bool:
    return call["cached_tokens"] is not None and call["cached_tokens"] == call["reusable_tokens"]


def _difference(call: Row, calls: Sequence[Row]) -> dict[str, Any]:
    cached, reusable = call["cached_tokens"], call["reusable_tokens"]
    overlapping = any(
        other is not call
        and other["started_at"] < call["started_at"] + (call["ttft_seconds"] or 0)
        and call["started_at"] < other["started_at"] + (other["ttft_seconds"] or 0)
        for other in calls
    )
    if cached is None or reusable is None:
        cause = "not told by the server"
    elif overlapping:
        cause = "arrival order: another call was in prefill at the same time"
    elif cached < reusable:
        cause = "eviction"
    else:
        cause = "unknown: more cached than the bound allows"
    return {
        **{key: call[key] for key in ("question_id", "node", "hop", "prompt_tokens", "cached_tokens")},
        "reusable_tokens": reusable,
        "cause": cause,
    }


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
