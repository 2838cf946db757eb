"""The reuse bound against an oracle that knows neither hashes nor blocks, and against the way not to compute it."""

from __future__ import annotations

from hashlib import blake2b
from itertools import combinations
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.errors import UsageError
from workload.theory.reuse_bound import PrefixIndex, block_hashes

# Few different tokens, so that prefixes are often shared, and some that need all four bytes.
TOKENS = st.lists(st.sampled_from([0, 1, 2, 49_151, 2**32 - 1]), max_size=40)
CALLS = st.lists(TOKENS, max_size=12)
# Prompt, output and salt of each call.
FULL_CALLS = st.lists(st.tuples(TOKENS, TOKENS, st.sampled_from(["", "a", "b"])), max_size=10)


def common_prefix(one: list[int], other: list[int]) -> int:
    """Return how many tokens two sequences share at their start."""
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


def oracle(calls: list[tuple[list[int], list[int], str]], block_size: int) -> list[int]:
    """Return the bound of each call by comparing it with every earlier one, token by token."""
    left: list[tuple[list[int], str]] = []
    found = []
    for prompt, output, salt in calls:
        shared = [
            min(common_prefix(prompt, seen), len(seen) // block_size * block_size, len(prompt) - 1)
            for seen, owner in left
            if owner == salt
        ]
        found.append(max([0, *shared]) // block_size * block_size)
        left += [(prompt, salt), ([*prompt, *output[:-1]], salt)]
    return found


def bounds(calls: list[list[int]], block_size: int) -> list[int]:
    """Return the bound of each prompt, outputs left out."""
    index = PrefixIndex(block_size)
    return [index.observe(call) for call in calls]


@given(FULL_CALLS, st.sampled_from([1, 2, 3, 4, 16]))
def test_equals_a_brute_force_search(calls: list[tuple[list[int], list[int], str]], block_size: int) -> None:
    """Chained hashes are an optimisation; what they find must be the longest common prefix in whole blocks."""
    index = PrefixIndex(block_size)
    found = []
    for prompt, output, salt in calls:
        found.append(index.observe(prompt, salt))
        index.observe_output(prompt, output, salt)
    assert found == oracle(calls, block_size)


@given(CALLS, st.integers(1, 8))
def test_never_exceeds_the_token_bound_or_the_prompt(calls: list[list[int]], block_size: int) -> None:
    """A cache of whole blocks finds at most what one of single tokens finds, and the last token is always computed."""
    for prompt, by_block, by_token in zip(calls, bounds(calls, block_size), bounds(calls, 1), strict=True):
        assert 0 <= by_block <= by_token <= max(0, len(prompt) - 1)
        assert by_block % block_size == 0


@given(CALLS, st.integers(1, 6), st.integers(1, 4))
def test_falls_as_nested_blocks_grow(calls: list[list[int]], block_size: int, factor: int) -> None:
    """Where one size divides the other, a block found at the large size is found as blocks of the small one."""
    for small, large in zip(bounds(calls, block_size), bounds(calls, block_size * factor), strict=True):
        assert large <= small


@given(TOKENS, st.integers(1, 4))
def test_salts_are_separate_worlds(prompt: list[int], block_size: int) -> None:
    """Arms and warm-ups lie under salts of their own; a hit across them would be a warm start."""
    index = PrefixIndex(block_size)
    index.observe(prompt, "warm-up")
    assert index.observe(prompt, "load") == 0
    assert index.observe(prompt, "load") == max(0, len(prompt) - 1) // block_size * block_size


def test_the_last_generated_token_leaves_nothing() -> None:
    """It is sampled and never computed, so a block that it completes is not in the cache."""
    prompt, output = [1, 2, 3], [4, 5, 6, 7, 8]
    index = PrefixIndex(4)
    index.observe(prompt)
    index.observe_output(prompt, output)
    assert index.observe([*prompt, *output, 9]) == 4
    index.observe_output(prompt, [*output, 9])
    assert index.observe([*prompt, *output, 10]) == 8


def test_the_last_prompt_token_is_always_computed() -> None:
    """A prompt sent again is not free: its logits choose the first token, so its last block is computed anew."""
    index = PrefixIndex(4)
    index.observe(list(range(8)))
    assert index.observe(list(range(8))) == 4
    assert index.observe(list(range(9))) == 8


def test_equal_blocks_after_other_parents_are_other_blocks() -> None:
    """A block's keys and values depend on all before it; without the chain a moved passage would count as reuse."""
    index = PrefixIndex(2)
    index.observe([1, 1, 7, 7, 9])
    assert index.observe([2, 2, 7, 7, 9]) == 0


def test_hashes_are_the_same_in_every_process() -> None:
    """Hashes of a recorded run are compared with those of another; Python's own `hash` differs by process."""
    first = blake2b(b"salt" + pack("=2I", 1, 2), digest_size=16).digest()
    second = blake2b(first + pack("=2I", 3, 4), digest_size=16).digest()
    assert list(block_hashes([1, 2, 3, 4, 5], 2, "salt")) == [first, second]


def test_pairwise_sums_are_not_reuse() -> None:
    """The trap: over all pairs a prefix of n calls counts n(n-1)/2 times and makes "reuse" of over 300 %."""
    log: list[int] = []
    calls = []
    for step in range(12):
        log = [*log, *range(100 * step, 100 * step + 50)]
        calls.append(log)
    total = sum(map(len, calls))
    pairwise = sum(common_prefix(one, other) for one, other in combinations(calls, 2)) / total
    bound = sum(bounds(calls, 16)) / total
    assert pairwise > 3
    assert 0.7 < bound < 1


def test_a_block_of_nothing_is_refused() -> None:
    """A block size that the engine did not report must not turn into an endless loop or a division by zero."""
    with pytest.raises(UsageError, match="block of 0 tokens"):
        PrefixIndex(0)


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=30), st.integers(1, 6))
def test_a_capacity_bounds_what_is_remembered_and_never_invents_a_hit(prompts: list[list[int]], capacity: int) -> None:
    """A run without end must not grow; what was forgotten counts as new, never the other way round."""
    whole, bounded = PrefixIndex(2), PrefixIndex(2, capacity)
    for prompt in prompts:
        assert bounded.observe(prompt) <= whole.observe(prompt)
        bounded.observe_output(prompt, [7, 7, 7])
        whole.observe_output(prompt, [7, 7, 7])
        assert len(bounded) <= capacity


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    """As vLLM evicts: a beginning without its end still serves, an end without its beginning serves no prompt."""
    index = PrefixIndex(2, 3)
    index.observe([1, 1, 2, 2, 3, 3])
    index.observe([9, 9])
    assert index.observe([1, 1, 2, 2, 3, 3, 4]) == 4
