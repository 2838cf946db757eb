"""Bytes a token of the KV cache: a check that computes blocks from tokens agrees with every formula."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.analysis.kv_growth import MIN_BLOCKS, KvUse, kv_growth, tokens_of

BYTES, BLOCK = 23_040, 32
ENGINE = {"block_size": BLOCK, "kv_block_bytes": float(BYTES * BLOCK)}
TOKENS = [1700, 2100, 2600, 3300, 4100, 5200, 6100, 7800]


def counted(tokens: list[int], blocks_a_token: float = 1 / BLOCK, extra: int = 0) -> list[KvUse]:
    """Return the samples of a gauge for calls of these lengths."""
    return [KvUse(length, ceil(length * blocks_a_token) + extra) for length in tokens]


def test_an_honest_engine_is_confirmed() -> None:
    """Three ways to one value: the config's formula, the pool's capacity, the growth of the blocks in use."""
    found = kv_growth(counted(TOKENS), ENGINE, BYTES)
    assert found["capacity_bytes_per_token"] == BYTES
    assert found["slope_bytes_per_token"] == pytest.approx(BYTES, rel=0.01)
    assert found["slope_ci"][0] <= BYTES <= found["slope_ci"][1] or found["slope_ci"][0] == pytest.approx(BYTES, 0.01)
    assert found["is_within"] is True
    assert found["blocks_as_needed"] == len(TOKENS)


def test_a_cache_that_really_grows_otherwise_is_found() -> None:
    """The circular way, blocks = tokens / block size, would have confirmed this engine, which uses 5 % more."""
    found = kv_growth(counted(TOKENS, 1.05 / BLOCK), ENGINE, BYTES)
    circular = kv_growth(counted(TOKENS), ENGINE, BYTES)
    assert found["is_within"] is False
    assert circular["is_within"] is True


def test_a_pool_of_another_size_is_found() -> None:
    """A KV cache of 8 bits fits twice the tokens into the same pool; the config alone would not show it."""
    assert kv_growth(counted(TOKENS), {**ENGINE, "kv_block_bytes": BYTES * BLOCK / 2}, BYTES)["is_within"] is False


def test_blocks_that_others_hold_do_not_tilt_the_slope() -> None:
    """Bytes over tokens would be wrong by all other memory in use; the slope is of the context alone."""
    found = kv_growth(counted(TOKENS, extra=20), ENGINE, BYTES)
    assert found["is_within"] is True
    assert found["blocks_as_needed"] == 0


@given(st.lists(st.integers(1, MIN_BLOCKS * BLOCK - BLOCK), max_size=20))
def test_short_contexts_confirm_nothing(tokens: list[int]) -> None:
    """A context of ten blocks is known to 10 %: rounding up to whole blocks could hide any error."""
    found = kv_growth(counted(tokens), ENGINE, BYTES)
    assert found["calls"] == 0
    assert found["is_within"] is None


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ({}, BYTES),
        ({"block_size": None, "kv_block_bytes": None}, BYTES),
        ({**ENGINE, "kv_pool_is_told": False}, BYTES),
        (ENGINE, None),
    ],
)
def test_a_missing_witness_confirms_nothing(engine: dict[str, Any], expected: int | None) -> None:
    """What the engine or the config does not report is unknown, never correct."""
    assert kv_growth(counted(TOKENS), engine, expected)["is_within"] is None


def test_the_last_token_of_a_reply_has_no_keys_yet() -> None:
    """It is sampled at the end and never fed back, so it is in no block."""
    assert tokens_of({"prompt_tokens": 100, "completion_tokens": 32}) == 131


def test_the_interval_covers_the_truth() -> None:
    """Blocks round lengths up by chance; in at least 90 of 100 sets of lengths the interval contains the true slope."""
    chance = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        tokens = sorted(int(length) for length in chance.integers(1700, 7800, 24))
        low, high = kv_growth(counted(tokens), ENGINE, BYTES)["slope_ci"]
        hits += low <= BYTES <= high
    assert hits >= 90
