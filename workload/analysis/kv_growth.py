"""How the KV cache grows with the context, by three witnesses that do not know of each other.

The model's config says how many bytes a token's keys and values take; the engine says how large its pool is and how
many tokens fit into it; and the blocks in use are counted while a call decodes. Bytes that were computed from tokens
would agree with any formula, so tokens come from the usage of the responses and blocks from the engine's gauge.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.statistics.resampling import percentile_interval, wild_responses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.record.results import Row

# A context of 50 blocks is told to 2 %, the block that is not full included.
MIN_BLOCKS = 50
TOLERANCE = 0.02
MIN_CALLS = 5
RESAMPLES = 1_999


@dataclass(frozen=True)
class KvUse:
    """What a call held at its end: `tokens` with keys and values, and the blocks of the pool then in use."""

    tokens: int
    blocks: float


def tokens_of(call: Row) -> int:
    """Return the tokens whose keys and values a call has computed: all but the last that it generated."""
    return int(call["prompt_tokens"] + call["completion_tokens"] - 1)


def kv_growth(held: Sequence[KvUse], engine: Mapping[str, Any], expected: int | None) -> dict[str, Any]:
    """Return bytes a token by each witness, and whether all are within 2 % of what the config says.

    `capacity` is the engine's pool over the tokens that fit into it; a pool that was computed from the config is no
    witness. `slope` is the growth of the bytes in use over contexts of `MIN_BLOCKS` blocks or more, so the rounding up
    to whole blocks drops out; its interval is 95 %, by the wild bootstrap. A witness that is missing is None, and then
    nothing is confirmed. Where `pool_is_told` is false, a block's bytes are the config's, and the slope says only how
    many blocks are taken.

    Args:
        held: of calls that were alone in the engine.
        engine: the facts of the engine, see `workload.engine.facts.EngineFacts`.
        expected: bytes a token by the model's config.
    """
    size, block_bytes = engine.get("block_size"), engine.get("kv_block_bytes")
    is_told = engine.get("kv_pool_is_told", True)
    long = [one for one in held if one.blocks >= MIN_BLOCKS]
    found: dict[str, Any] = {
        "expected_bytes_per_token": expected,
        "capacity_bytes_per_token": block_bytes / size if is_told and size and block_bytes else None,
        "slope_bytes_per_token": None,
        "slope_ci": None,
        "calls": len(long),
        "seen_calls": len(held),
        "pool_is_told": is_told,
        "blocks_as_needed": sum(one.blocks == ceil(one.tokens / size) for one in held) if size else None,
        "is_within": None,
    }
    tokens = np.array([one.tokens for one in long], dtype=np.float64)
    if block_bytes and len(long) >= MIN_CALLS and len(np.unique(tokens)) >= 3:
        used = np.array([one.blocks for one in long]) * block_bytes
        design = np.column_stack([np.ones_like(tokens), tokens])
        responses = np.vstack([used, wild_responses(design, used, RESAMPLES, np.random.default_rng(0))])
        slopes = (np.linalg.pinv(design) @ responses.T)[1]
        found |= {"slope_bytes_per_token": float(slopes[0]), "slope_ci": percentile_interval(slopes[1:])}
    witnesses = (found["capacity_bytes_per_token"], found["slope_bytes_per_token"])
    if expected and None not in witnesses:
        found["is_within"] = all(abs(witness / expected - 1) <= TOLERANCE for witness in witnesses if witness)
    return found
