"""What one engine's prefix cache contains, and what it once contained, as its events say."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from workload.fleet.blocks import blocks_after, blocks_of
from workload.fleet.key_filter import KeyFilter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workload.fleet.blocks import Block
    from workload.fleet.events import BlockHash, Removed, Stored

CAPACITY_BLOCKS = 1 << 18
"""Blocks remembered after they have left an engine's cache, some 50 MB."""

Past = Literal["evicted", "reset", "forgotten"]


class BlockIndex:
    """One engine's cache at a moment in its own order of events.

    Args:
        block_size: tokens per block.
        capacity_blocks: the most blocks remembered after they have left the cache. Those that left first are forgotten,
            and a filter remembers that they were there.

    Attributes:
        doubt: why the content is not known; None if it is. Events that are missing are made up for by a clear.
        computing: the blocks that a call is computing, with the number of such calls.
        has_sessions: whether the engine names the session of a call.
    """

    def __init__(self, block_size: int, capacity_blocks: int = CAPACITY_BLOCKS) -> None:
        self.block_size = block_size
        self.doubt: str | None = None
        self.computing: dict[bytes, int] = {}
        self.has_sessions = False
        self._capacity_blocks = capacity_blocks
        self._copies: dict[bytes, int] = {}
        self._linked: dict[BlockHash, Block] = {}
        self._left: OrderedDict[bytes, int] = OrderedDict()
        self._forgotten = KeyFilter()
        self._era = 0

    def blocks(self, event: Stored) -> list[Block] | None:
        """Return the blocks of an event; None if the block before the first is not known."""
        known = [self._linked[name] for name in event.hashes if name in self._linked]
        if len(known) == len(event.hashes):
            return known
        if event.parent is None:
            return blocks_of(event.tokens, event.block_size, event.world)
        parent = self._linked.get(event.parent)
        if parent is None:
            return None
        return blocks_after(parent, event.tokens, event.block_size)

    def store(self, event: Stored, blocks: Iterable[Block]) -> None:
        """Count a copy of each block: the last block of a full prompt is computed although it is there."""
        if self.doubt is not None:
            self.assume(blocks, is_certain=True)
            return
        for name, block in zip(event.hashes, blocks, strict=True):
            self._linked[name] = block
            self._copies[block.key] = self._copies.get(block.key, 0) + 1

    def remove(self, event: Removed) -> None:
        """Take away one copy of each block."""
        for name in event.hashes if self.doubt is None else ():
            block = self._linked.get(name)
            if block is None:
                self.lose("a block was evicted that was never stored")
                return
            copies = self._copies[block.key] - 1
            if copies:
                self._copies[block.key] = copies
            else:
                del self._copies[block.key], self._linked[name]
                self._leave(block.key)

    def names(self, events: Iterable[Removed], blocks: Iterable[Block]) -> bool:
        """Return whether evictions are about one of these blocks."""
        leaving = {block.key for event in events for name in event.hashes if (block := self._linked.get(name))}
        return bool(leaving) and any(block.key in leaving for block in blocks)

    def clear(self) -> None:
        """Empty the cache, after which its content is known again."""
        self._forsake()
        self._era += 1
        self.doubt = None

    def lose(self, doubt: str) -> None:
        """Know nothing about the content until it is cleared."""
        self._forsake()
        self.doubt = doubt

    def assume(self, blocks: Iterable[Block], *, is_certain: bool) -> None:
        """Remember that blocks were, or may have been, in a cache whose content is not known."""
        for block in blocks:
            if block.key not in self._copies and block.key not in self._left:
                if is_certain:
                    self._leave(block.key)
                else:
                    self._forgotten.add(block.key)

    def copies(self, key: bytes) -> int:
        """Return how many copies of a block the cache contains; 0 where its content is not known."""
        return self._copies.get(key, 0)

    def resident(self, blocks: Iterable[Block]) -> int:
        """Return how many blocks from the first on the cache contains."""
        count = 0
        for block in blocks:
            if block.key not in self._copies:
                break
            count += 1
        return count

    def past(self, key: bytes) -> Past | None:
        """Return how a block that is not in the cache left it; None if it never was there."""
        era = self._left.get(key)
        if era is not None:
            return "evicted" if era == self._era else "reset"
        return "forgotten" if key in self._forgotten else None

    def _forsake(self) -> None:
        for key in self._copies:
            self._leave(key)
        self._copies.clear()
        self._linked.clear()
        self.computing.clear()

    def _leave(self, key: bytes) -> None:
        self._left[key] = self._era
        self._left.move_to_end(key)
        if len(self._left) > self._capacity_blocks:
            self._forgotten.add(self._left.popitem(last=False)[0])
