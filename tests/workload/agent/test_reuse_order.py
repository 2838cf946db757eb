"""The live reuse bound: whatever the order in which calls answer, fail or end, the order of sending decides."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.agent.reuse_order import Arrival, ReuseOrder
from workload.theory.reuse_bound import PrefixIndex, block_hashes

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=12)


@dataclass
class Call:
    """A call and the bound that its `close` received."""

    arrival: Arrival
    bound: int | None = None

    def take(self, tokens: int) -> None:
        """Take the bound; it comes once."""
        assert self.bound is None
        self.bound = tokens


@st.composite
def loads(draw: DrawFn) -> tuple[list[list[int] | None], list[int]]:
    """Return prompts in the order of sending, None where the prompt ids never arrive, and an order of their ends."""
    prompts = draw(st.lists(st.none() | TOKENS, min_size=1, max_size=6))
    # each call has two events, its prompt and its end, in that order but anywhere among the others'
    return prompts, draw(st.permutations(list(range(len(prompts))) * 2))


@given(loads(), st.integers(1, 3))
def test_the_order_of_sending_decides(load: tuple[list[list[int] | None], list[int]], block_size: int) -> None:
    """Answers overtake each other at any concurrency above one; matched as they come, the bound would be another."""
    prompts, events = load
    order = ReuseOrder(block_size)
    calls = [Call(order.send("")) for _ in prompts]
    begun: set[int] = set()
    for number in events:
        prompt = prompts[number]
        if number in begun:
            order.close(calls[number].arrival, calls[number].take)
        elif prompt is not None:
            order.prompt(calls[number].arrival, prompt)
        begun.add(number)
    index = PrefixIndex(block_size)
    assert [call.bound for call in calls] == [None if prompt is None else index.observe(prompt) for prompt in prompts]
    assert not order._waiting


def test_a_call_that_failed_early_delays_no_other() -> None:
    """The prompt ids of a refused call never arrive; a call that waits for them would never get its bound."""
    order = ReuseOrder(2)
    refused, good = Call(order.send("")), Call(order.send(""))
    order.prompt(good.arrival, [1, 2, 3])
    order.close(good.arrival, good.take)
    too_early = good.bound
    order.close(refused.arrival, refused.take)
    assert (too_early, refused.bound, good.bound) == (None, None, 0)


def test_a_call_that_failed_late_has_filled_the_cache() -> None:
    """Its prompt was computed before the stream was cut, so the next call finds the blocks."""
    order = ReuseOrder(2)
    cut, after = Call(order.send("")), Call(order.send(""))
    order.prompt(cut.arrival, [1, 2, 3, 4])
    order.close(cut.arrival, cut.take)
    order.prompt(after.arrival, [1, 2, 3, 4, 5])
    order.close(after.arrival, after.take)
    assert after.bound == 4


def test_generated_tokens_serve_the_next_call() -> None:
    """An append-only prompt sends the reply again; the engine has its blocks already, all but the last token's."""
    order = ReuseOrder(2)
    first = Call(order.send(""))
    order.prompt(first.arrival, [1, 2])
    order.output(first.arrival, [3, 4, 5])
    order.close(first.arrival, first.take)
    second = Call(order.send(""))
    order.prompt(second.arrival, [1, 2, 3, 4, 5, 6])
    order.close(second.arrival, second.take)
    assert second.bound == 4


def test_an_output_that_had_to_wait_is_not_forgotten() -> None:
    """A short call may end before the prompt ids of an earlier one arrive; its output still counts."""
    order = ReuseOrder(2)
    slow, quick = Call(order.send("")), Call(order.send(""))
    order.prompt(quick.arrival, [1, 2])
    order.output(quick.arrival, [3, 4, 5])
    order.close(quick.arrival, quick.take)
    order.prompt(slow.arrival, [7, 7])
    order.close(slow.arrival, slow.take)
    after = Call(order.send(""))
    order.prompt(after.arrival, [1, 2, 3, 4, 5])
    order.close(after.arrival, after.take)
    assert after.bound == 4


def test_salts_are_separate() -> None:
    """The warm-up before a window must not make its first calls look warm."""
    order = ReuseOrder(2)
    for salt, expected in (("warm-up", 0), ("load", 0), ("load", 2)):
        call = Call(order.send(salt))
        order.prompt(call.arrival, [1, 2, 3])
        order.close(call.arrival, call.take)
        assert call.bound == expected


def test_an_unknown_block_size_gives_no_bound() -> None:
    """An engine that does not report its block size has no bound; memory must not grow for it either."""
    order = ReuseOrder(None)
    for _ in range(3):
        call = Call(order.send(""))
        order.prompt(call.arrival, [1, 2, 3])
        order.output(call.arrival, [4])
        order.close(call.arrival, call.take)
        assert call.bound is None
    assert not order._waiting


@pytest.mark.parametrize("ids", [[-1], [2**32], [None], "ids"])
def test_ids_that_are_none_fail_their_own_call(ids: list[int]) -> None:
    """A server's nonsense belongs to the call that brought it, not to the one that happens to be matched next."""
    order = ReuseOrder(2)
    first, second = Call(order.send("")), Call(order.send(""))
    with pytest.raises((TypeError, OverflowError)):
        order.prompt(second.arrival, ids)
    order.close(second.arrival, second.take)
    order.prompt(first.arrival, [1, 2])
    order.close(first.arrival, first.take)
    assert (first.bound, second.bound) == (0, None)


@given(prompt=TOKENS, output=TOKENS, salt=st.sampled_from(["", "s"]))
def test_each_block_is_hashed_once(prompt: list[int], output: list[int], salt: str) -> None:
    """A prompt of 8,000 tokens is 500 blocks; hashed three times on the event loop it delays every other question."""
    order, hashed = ReuseOrder(2), PrefixIndex(2)
    with patch("workload.theory.reuse_bound.blake2b", wraps=blake2b) as digest:
        arrival = order.send(salt)
        order.prompt(arrival, prompt)
        order.output(arrival, output)
        joined = order.hashes(arrival)
        assert digest.call_count == (len(prompt) + len(output) - 1) // 2
    assert joined == b"".join(block_hashes(prompt, 2, salt))
    hashed.observe(prompt, salt)
    hashed.observe_output(prompt, output, salt)
    again = order.send(salt)
    order.prompt(again, [*prompt, *output])
    order.close(again, lambda _: None)
    assert again.reusable == hashed.observe([*prompt, *output], salt)


def test_row_27_an_adapter_shares_no_block_with_another() -> None:
    """VLLM hashes the adapter's name into each block: the same prompt under another adapter hits nothing."""
    hashes = []
    for adapter in ("", "lora-a", "lora-b"):
        order = ReuseOrder(4, adapter=adapter)
        arrival = order.send("salt")
        order.prompt(arrival, range(8))
        hashes.append(order.hashes(arrival))
    assert len(set(hashes)) == 3
