"""The sentence about what a larger pool would bring."""

from __future__ import annotations

from typing import Any

import pytest

from workload.kv_cache.pool_curves import in_words

CURVE = [{"pool_blocks": 10, "share": 0.1}, {"pool_blocks": 20, "share": 0.3}, {"pool_blocks": 42, "share": 0.45}]


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (None, "32 more blocks than the 10 that just fit would bring 35.0 points"),
        ((22, None), "20 more blocks than the 22 that the engine has would bring 15.0 points"),
        ((22, 1 << 29), "20 more blocks (10 GiB) than the 22 that the engine has would bring 15.0 points"),
        ((50, None), "more than 42 blocks bring no further hits, and the pool has 50"),
    ],
)
def test_says_what_more_memory_brings(engine: tuple[int, float | None] | None, said: str) -> None:
    """From the engine's own pool where a run recorded it; bytes only where the engine told them."""
    told = {"num_gpu_blocks": engine[0], "kv_block_bytes": engine[1]} if engine else None
    found: Any = {"pool_curve": CURVE, "engine": told, "eviction": [{"in_flight": 8}]}
    sentence = str(in_words("a", found))
    assert said in sentence
    assert "bring no further" in sentence or sentence.startswith("a, 8 questions in flight: ")


def test_says_nothing_without_a_share() -> None:
    """Prompts without tokens have no share that could grow."""
    found: Any = {"pool_curve": [{"pool_blocks": 1, "share": None}], "engine": None}
    assert in_words("a", found) is None
