"""Queries about prompts: what of them could be reused, what was, and how they grow from hop to hop."""

from __future__ import annotations

from workload.promql.counts import count
from workload.promql.query import RATE_INTERVAL, Query

PROMPT = "hop2rag_prompt_tokens_total"
CACHED = "hop2rag_cached_prompt_tokens_total"
REUSABLE = "hop2rag_reusable_prompt_tokens_total"
CACHING_ENABLED = "instance:vllm_prefix_caching_enabled:min"


def _tokens(metric: str, labels: str, window: str = "$__range", function: str = "increase") -> str:
    return f"sum by ({labels}) ({function}({metric}{{$scope}}[{window}]))"


def _share(metric: str, labels: str, window: str = "$__range") -> str:
    return f"{_tokens(metric, labels, window)} / ({_tokens(PROMPT, labels, window)} > 0)"


def _hits(labels: str, window: str = "$__range") -> str:
    """Return the share of prompt tokens that came from the cache, absent where caching is off: 0 % would be a miss."""
    caching = f"min by (arm) (last_over_time({CACHING_ENABLED}{{$scope}}[{window}]))"
    return f"({_share(CACHED, labels, window)}) unless on (arm) {caching} == 0"


def _mean_size(labels: str, window: str) -> str:
    size = "hop2rag_llm_call_prompt_tokens"
    return f"{_tokens(f'{size}_sum', labels, window)} / ({_tokens(f'{size}_count', labels, window)} > 0)"


TOKENS_BY_NODE = Query("prompt_tokens_by_node", f"{count('arm, node', PROMPT + '{$scope}')} > 0")
BOUND_BY_NODE = Query("reuse_bound_by_node", _share(REUSABLE, "arm, node"))
HITS_BY_NODE = Query("reuse_measured_by_node", _hits("arm, node"))
TOKENS_BY_HOP = Query("prompt_tokens_by_hop", f"{count('arm, hop', PROMPT + '{$scope}')} > 0")
BOUND_BY_HOP = Query("reuse_bound_by_hop", _share(REUSABLE, "arm, hop"))
HITS_BY_HOP = Query("reuse_measured_by_hop", _hits("arm, hop"))
BOUND = Query("reuse_bound", _share(REUSABLE, "arm", "1m"))
HITS = Query("reuse_measured", _hits("arm", "1m"))
_REUSABLE_RATE, _CACHED_RATE = (
    _tokens(metric, "arm, node", "$__rate_interval", "rate") for metric in (REUSABLE, CACHED)
)
_OFF = f"min by (arm) ({CACHING_ENABLED}{{$scope}}) == 0"
# With caching off a server may report no cached tokens at all: then all that was reusable is lost.
LOST = Query("reuse_lost_rate", f"{_REUSABLE_RATE} - ({_CACHED_RATE} or 0 * {_REUSABLE_RATE} and on (arm) {_OFF})")
FATE = "hop2rag_prompt_token_fate_total"
FINDABLE = "hop2rag_findable_prompt_tokens_total"
FATES = Query("prompt_token_fates_rate", _tokens(FATE, "arm, fate", "$__rate_interval", "rate"))


def _fates(label: str, *fates: str) -> Query:
    """Return the share of prompt tokens that have one of these fates, by arm and a label."""
    chosen = "|".join(fates)
    some = f'sum by (arm, {label}) (increase({FATE}{{$scope,fate=~"{chosen}"}}[$__range]))'
    return Query(f"prompt_tokens_{fates[0]}_by_{label}", f"{some} / ({_tokens(FATE, f'arm, {label}')} > 0)")


def _findable(place: str) -> Query:
    """Return the share of the prompt tokens of explained calls that could be found at a place."""
    found, prompt = (
        f'sum by (arm) (rate({FINDABLE}{{$scope,place="{each}"}}[$__rate_interval]))' for each in (place, "prompt")
    )
    return Query(f"prompt_tokens_findable_{place}", f"{found} / ({prompt} > 0)")


_GROUPS = (("hit",), ("cold", "tail"), ("elsewhere",), ("evicted", "reset"), ("flight", "salt", "behind"), ("unknown",))
HIT_BY_NODE, NEW_BY_NODE, ELSEWHERE_BY_NODE, EVICTED_BY_NODE, OTHER_BY_NODE, UNKNOWN_BY_NODE = (
    _fates("node", *group) for group in _GROUPS
)
HIT_BY_HOP, NEW_BY_HOP, ELSEWHERE_BY_HOP, EVICTED_BY_HOP, OTHER_BY_HOP, UNKNOWN_BY_HOP = (
    _fates("hop", *group) for group in _GROUPS
)
IN_ANY_CACHE, IN_BEST_CACHE, IN_CHOSEN_CACHE, DELIVERED = map(
    _findable, ("bound", "in_fleet", "on_engine", "delivered")
)
SIZE_BY_HOP = Query("prompt_size_by_hop", _mean_size("arm, hop", "$__range"))
SIZE_BY_NODE = Query("prompt_size_by_node", _mean_size("arm, node", "$__range"))
SIZE = Query("prompt_size", _mean_size("arm, hop", "1m"))
SIZE_BUCKETS = Query("prompt_size_buckets", count("le", "hop2rag_llm_call_prompt_tokens_bucket{$scope}", RATE_INTERVAL))
