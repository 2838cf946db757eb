"""What an engine's cache contains, by its events alone."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from workload.fleet.block_index import BlockIndex
from workload.fleet.blocks import blocks_of
from workload.fleet.events import Removed, Stored, world_of
from workload.fleet.key_filter import KeyFilter


def stored(tokens: list[int], *names: int, parent: int | None = None, world: str = "") -> Stored:
    """Return an event about blocks of two tokens."""
    return Stored(names, parent, array("I", tokens), 2, world, None)


def put(index: BlockIndex, event: Stored) -> None:
    """Store what an event names."""
    blocks = index.blocks(event)
    assert blocks is not None
    index.store(event, blocks)


def test_finds_blocks_by_tokens_whatever_the_engine_calls_them() -> None:
    """Before 0.29 the seed of the names is random; a block is found by all tokens up to its end."""
    index = BlockIndex(2)
    put(index, stored([1, 2, 3, 4], 71, 72))
    put(index, stored([5, 6], 73, parent=72))
    assert index.resident(blocks_of([1, 2, 3, 4, 5, 6, 7], 2, "")) == 3
    assert index.resident(blocks_of([3, 4, 5, 6], 2, "")) == 0


def test_a_removal_takes_one_copy() -> None:
    """The last block of an exactly full prompt is stored a second time, and each copy is evicted by itself."""
    index = BlockIndex(2)
    put(index, stored([1, 2], 71))
    put(index, stored([1, 2], 71))
    (block,) = blocks_of([1, 2], 2, "")
    index.remove(Removed((71,)))
    assert (index.copies(block.key), index.past(block.key)) == (1, None)
    index.remove(Removed((71,)))
    assert (index.copies(block.key), index.past(block.key)) == (0, "evicted")


def test_a_clear_makes_what_was_there_a_reset() -> None:
    """A block that had been evicted before the clear is lost to it too: the clear came later."""
    index = BlockIndex(2)
    put(index, stored([1, 2, 3, 4], 71, 72))
    index.remove(Removed((72,)))
    index.clear()
    assert [index.past(block.key) for block in blocks_of([1, 2, 3, 4, 5, 6], 2, "")] == ["reset", "reset", None]


def test_worlds_are_apart() -> None:
    """A salt or an adapter makes other blocks of the same tokens, and later blocks inherit it."""
    index = BlockIndex(2)
    put(index, stored([1, 2], 71, world=world_of("salt")))
    put(index, stored([3, 4], 72, parent=71))
    assert index.resident(blocks_of([1, 2, 3, 4], 2, world_of("salt"))) == 2
    assert index.resident(blocks_of([1, 2, 3, 4], 2, "")) == 0
    assert index.resident(blocks_of([1, 2], 2, world_of("", "salt"))) == 0


def test_nothing_is_known_after_a_loss_until_a_clear() -> None:
    """An event may have been an eviction of anything; what a clear ended was in the cache before."""
    index = BlockIndex(2)
    put(index, stored([1, 2], 71))
    index.lose("a test")
    put(index, stored([3, 4], 72))
    index.remove(Removed((99,)))
    first, second = blocks_of([1, 2], 2, "")[0], blocks_of([3, 4], 2, "")[0]
    assert index.doubt == "a test"
    assert (index.copies(first.key), index.copies(second.key)) == (0, 0)
    index.clear()
    assert index.doubt is None
    assert (index.past(first.key), index.past(second.key)) == ("reset", "reset")


def test_an_eviction_of_an_unknown_block_is_a_loss() -> None:
    """The events contradict each other, so some are missing, whatever their numbers say."""
    index = BlockIndex(2)
    index.remove(Removed((71,)))
    assert index.doubt == "a block was evicted that was never stored"


def test_a_block_after_an_unknown_one_cannot_be_placed() -> None:
    """Its name says nothing about the tokens before it."""
    assert BlockIndex(2).blocks(stored([3, 4], 72, parent=71)) is None


def test_forgets_the_oldest_blocks_and_says_so() -> None:
    """A run without end must not fill memory; a forgotten block must not be called cold."""
    index = BlockIndex(2, capacity_blocks=2)
    for name in range(5):
        put(index, stored([name, 0], name))
        index.remove(Removed((name,)))
    found = [index.past(blocks_of([name, 0], 2, "")[0].key) for name in range(6)]
    assert found == ["forgotten", "forgotten", "forgotten", "evicted", "evicted", None]


@given(st.sets(st.binary(min_size=16, max_size=24), max_size=50))
def test_the_filter_misses_no_key(keys: set[bytes]) -> None:
    """A missed key would be called cold; a mistaken one is only unknown."""
    keep = KeyFilter()
    assert not any(key in keep for key in keys)
    for key in keys:
        keep.add(key)
    assert all(key in keep for key in keys)
