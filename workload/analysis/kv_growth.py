"""How the KV cache grows with the context, by three independent sources.

The model's config gives the bytes of a token's keys and values; the engine reports the size of its pool and how many
tokens fit into it; and the blocks in use are counted while a call decodes. Bytes computed from tokens would agree with
any formula, so tokens come from the usage of the responses and blocks from the engine's gauge.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from workload.statistics.resampling import percentile_interval, wild_responses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.record.results import Row
    from workload.statistics.paired import Interval

# From 50 blocks on, the last block, which may not be full, is at most 2 % of the context.
MIN_BLOCKS = 50
TOLERANCE = 0.02
MIN_CALLS = 5
RESAMPLES = 1_999


@dataclass(frozen=True)
class KvUse:
    """The KV cache at the end of a call: `tokens` with keys and values, and the blocks of the pool in use."""

    tokens: int
    blocks: float


class KvGrowth(TypedDict):
    """Bytes per token of context by each source, and whether all are within 2 % of the config's.

    Attributes:
        capacity_bytes_per_token: the engine's pool over the tokens that fit into it; None if the pool was computed
            from the config.
        slope_bytes_per_token: the growth of the bytes in use over contexts of `MIN_BLOCKS` blocks or more, so that the
            rounding up to whole blocks cancels; the 95 % interval is that of the wild bootstrap.
        calls, seen_calls: calls of at least `MIN_BLOCKS` blocks, and all calls.
        pool_is_told: whether the engine reports its pool's bytes. Otherwise a block's bytes are the config's, and the
            slope only counts blocks.
        is_within: None if a source is missing.
    """

    expected_bytes_per_token: int | None
    capacity_bytes_per_token: float | None
    slope_bytes_per_token: float | None
    slope_ci: Interval | None
    calls: int
    seen_calls: int
    pool_is_told: bool
    blocks_as_needed: int | None
    is_within: bool | None


def tokens_of(call: Row) -> int:
    """Return the tokens whose keys and values a call has computed: all except the last generated one."""
    return int(call["prompt_tokens"] + call["completion_tokens"] - 1)


def kv_growth(used: Sequence[KvUse], engine: Mapping[str, Any], expected: int | None) -> KvGrowth:
    """Return how the KV cache grows with the context of calls that were alone in the engine.

    `engine` are its facts, see `workload.engine.facts.EngineFacts`; `expected` are the config's bytes per token.
    """
    size, block_bytes = engine.get("block_size"), engine.get("kv_block_bytes")
    is_reported = engine.get("kv_pool_is_told", True)
    long = [one for one in used if one.blocks >= MIN_BLOCKS]
    found: KvGrowth = {
        "expected_bytes_per_token": expected,
        "capacity_bytes_per_token": block_bytes / size if is_reported and size and block_bytes else None,
        "slope_bytes_per_token": None,
        "slope_ci": None,
        "calls": len(long),
        "seen_calls": len(used),
        "pool_is_told": is_reported,
        "blocks_as_needed": sum(one.blocks == ceil(one.tokens / size) for one in used) if size else None,
        "is_within": None,
    }
    tokens = np.array([one.tokens for one in long], dtype=np.float64)
    if block_bytes and len(long) >= MIN_CALLS and len(np.unique(tokens)) >= 3:
        in_use = np.array([one.blocks for one in long]) * block_bytes
        design = np.column_stack([np.ones_like(tokens), tokens])
        responses = np.vstack([in_use, wild_responses(design, in_use, RESAMPLES, np.random.default_rng(0))])
        slopes = (np.linalg.pinv(design) @ responses.T)[1]
        found |= {"slope_bytes_per_token": float(slopes[0]), "slope_ci": percentile_interval(slopes[1:])}
    sources = (found["capacity_bytes_per_token"], found["slope_bytes_per_token"])
    if expected and None not in sources:
        found["is_within"] = all(abs(value / expected - 1) <= TOLERANCE for value in sources if value)
    return found
