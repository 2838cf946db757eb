"""A pool that is too small explains a lower hit rate only if the replay evicts what the engine evicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.theory.eviction import BlockPool, Call, hashed, replay, smallest_pool
from workload.theory.reuse_bound import PrefixIndex

if TYPE_CHECKING:
    import random

ids = st.lists(st.integers(0, 2), max_size=14)
raw_calls = st.lists(st.tuples(ids, ids, st.sampled_from(["", "salt"])), max_size=12)
block_sizes = st.integers(1, 4)


@given(raw_calls, block_sizes)
def test_an_endless_pool_is_the_reuse_bound(raw: list[tuple[list[int], list[int], str]], block_size: int) -> None:
    """Two independent ways to the same bound; the live one of every call uses the other."""
    index = PrefixIndex(block_size)
    bound = []
    for prompt, output, salt in raw:
        bound.append(index.observe(prompt, salt))
        index.observe_output(prompt, output, salt)
    calls = [hashed(prompt, output, block_size, salt) for prompt, output, salt in raw]
    assert list(replay(calls, block_size).reusable_tokens) == bound
    enough = 1 + sum(-(-call.computed_tokens // block_size) for call in calls)
    assert list(replay(calls, block_size, enough).reusable_tokens) == bound


@given(raw_calls, block_sizes, st.integers(0, 6), st.booleans())
def test_a_pool_never_reuses_more_than_the_bound(
    raw: list[tuple[list[int], list[int], str]], block_size: int, spare: int, blanks_first: bool
) -> None:
    """What was evicted can only be missing; and a pinned block is never taken, so pins fit the pool."""
    calls = [hashed(prompt, output, block_size, salt) for prompt, output, salt in raw]
    pool = smallest_pool(calls, block_size) + spare
    found = replay(calls, block_size, pool, blanks_first=blanks_first)
    endless = replay(calls, block_size).reusable_tokens
    assert all(one <= other for one, other in zip(found.reusable_tokens, endless, strict=True))
    assert found.peak_pinned_blocks <= pool - 1


@given(raw_calls, block_sizes, st.integers(0, 4), st.randoms(use_true_random=False))
def test_overlapping_calls_all_run(
    raw: list[tuple[list[int], list[int], str]], block_size: int, spare: int, rng: random.Random
) -> None:
    """Calls wait for room and none is lost; pins of calls that run together stay within the pool."""
    calls = [
        hashed(prompt, output, block_size, salt, (start := rng.uniform(0, 5), start + rng.uniform(0.1, 5)))
        for prompt, output, salt in raw
    ]
    pool = smallest_pool(calls, block_size) + spare
    found = replay(calls, block_size, pool)
    assert len(found.reusable_tokens) == len(calls)
    assert found.peak_pinned_blocks <= pool - 1
    assert all(
        tokens <= max(call.prompt_tokens - 1, 0) for tokens, call in zip(found.reusable_tokens, calls, strict=True)
    )


def test_the_tail_is_evicted_first() -> None:
    """Worked by hand: 5 blocks of A fill the pool, then B takes 2 of them: the last two of A's chain."""
    a, b = hashed([1, 2, 3, 4, 5], [], 1), hashed([8, 9], [], 1)
    found = replay([a, b, a], 1, 6)
    # A finds its first three again and computes the others in the two that B has left: 2 + 2 evicted.
    assert found.reusable_tokens == (0, 0, 3)
    assert found.evicted_blocks == 4


def test_evicting_the_head_first_would_leave_nothing() -> None:
    """The wrong way, for comparison: least recently used by position evicts A's first block, and its chain with it."""
    pool = BlockPool(6)
    keys = [b"1", b"2", b"3", b"4", b"5"]
    chain = [pool.take() for _ in keys]
    for block, key in zip(chain, keys, strict=True):
        pool.publish(block, key)
    pool.release(chain[::-1])
    pool.release([pool.take(), pool.take()])
    assert pool.find(keys) == []


def test_a_prompt_found_whole_is_computed_again_into_a_copy() -> None:
    """The last token is always computed, so a repeated prompt of whole blocks takes one block more each time."""
    prompt = list(range(8))
    calls = [hashed(prompt, [], 4)] * 3
    found = replay(calls, 4, 3)
    assert found.reusable_tokens == (0, 4, 4)
    assert found.evicted_blocks == 2


def test_the_last_generated_token_is_never_found() -> None:
    """It is sampled and not computed, so a log that goes on after it finds one token less than was said."""
    prompt, output = [1, 2, 3], [4, 5, 6]
    calls = [hashed(prompt, output, 1), hashed([*prompt, *output, 7, 8], [], 1)]
    assert calls[0].computed_tokens == 5
    assert replay(calls, 1).reusable_tokens == (0, 5)


def test_a_call_that_waits_beyond_its_end_gives_its_blocks_back() -> None:
    """The engine was done with it, so it must not stay pinned: later calls would wait for it without end."""
    long = hashed([1, 2, 3], [], 1, span=(0.0, 10.0))
    waiting = hashed([4, 5, 6], [], 1, span=(1.0, 2.0))
    later = [hashed([4, 5, 6], [], 1, span=(start, start + 1)) for start in (11.0, 13.0)]
    assert replay([long, waiting, *later], 1, 4).reusable_tokens == (0, 0, 2, 2)


def test_a_running_call_keeps_its_blocks() -> None:
    """Two calls at once: the second may not evict what the first has pinned, so it waits until the first ends."""
    a, b = hashed([1, 2, 3], [], 1, span=(0.0, 10.0)), hashed([7, 8, 9], [], 1, span=(1.0, 2.0))
    again = hashed([1, 2, 3], [], 1, span=(3.0, 4.0))
    assert replay([a, b, again], 1, 8).reusable_tokens == (0, 0, 2)
    tight = replay([a, b, again], 1, 5)
    assert tight.peak_pinned_blocks <= 4
    assert tight.reusable_tokens[1] == 0


def test_blanks_in_the_old_order_hold_a_place_in_the_queue() -> None:
    """Older engines put half-full blocks behind cached ones, so the same pool evicts more."""
    calls = [hashed([n, n, n], [], 2) for n in range(4)] * 2
    new, old = (replay(calls, 2, 6, blanks_first=blanks_first) for blanks_first in (True, False))
    assert sum(new.reusable_tokens) == 8
    assert sum(old.reusable_tokens) == 0


@pytest.mark.parametrize(
    ("calls", "pool"),
    [
        ([Call(8, 8, (b"a", b"b"))], 2),
        ([Call(4, 4, (b"a",), (1.0, 1.0))], None),
        ([Call(4, 4, (b"a",), (1.0, 2.0)), Call(4, 4, (b"a",))], None),
    ],
)
def test_what_cannot_be_replayed_is_refused(calls: list[Call], pool: int | None) -> None:
    """The engine would not start with such a pool, and a call without time cannot be put in order."""
    with pytest.raises(ValueError, match=r"too small|span"):
        replay(calls, 4, pool)
