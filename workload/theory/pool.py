"""A pool of KV-cache blocks with vLLM's rules for finding, taking and freeing them.

The free blocks wait in a queue. Whoever needs a block takes the head, and what it cached is evicted. A call frees its
blocks from the tail of its chain, so tails reach the head first and prefixes stay longest. Equal blocks are not
merged: one that is computed again becomes a further copy, and the oldest copy is the one found.
Source: vLLM's `block_pool.BlockPool`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(eq=False)
class Block:
    """One block: the chained hash of what it caches, None while blank, and the calls that use it now."""

    key: bytes | None = None
    users: int = 0


class BlockPool:
    """The blocks of an engine.

    Args:
        blocks: the engine's `num_gpu_blocks`, of which one is vLLM's null block and holds nothing; None has no end.
        blanks_first: whether freed blanks go to the head of the queue. Up to vLLM pull request 42656 they went to the
            tail with all others.
    """

    def __init__(self, blocks: int | None, *, blanks_first: bool = True) -> None:
        self.evicted = 0
        self.pinned = 0
        self._is_bounded = blocks is not None
        self._blanks_first = blanks_first
        self._free = OrderedDict.fromkeys(Block() for _ in range((blocks or 1) - 1))
        self._copies: dict[bytes, dict[Block, None]] = {}

    def find(self, keys: Iterable[bytes]) -> list[Block]:
        """Return the cached blocks of the longest prefix of `keys`."""
        found = []
        for key in keys:
            if key not in self._copies:
                break
            found.append(next(iter(self._copies[key])))
        return found

    def has_room(self, found: Sequence[Block], wanted: int) -> bool:
        """Return whether `wanted` blocks are left to take once those found are pinned."""
        return not self._is_bounded or wanted + sum(not block.users for block in found) <= len(self._free)

    def pin(self, blocks: Iterable[Block]) -> None:
        """Keep found blocks from being taken."""
        for block in blocks:
            if not block.users:
                self._free.pop(block)
                self.pinned += 1
            block.users += 1

    def take(self) -> Block:
        """Return the block at the head of the queue, pinned and blank.

        Raises:
            KeyError: no block is free; see `has_room`.
        """
        block = self._free.popitem(last=False)[0] if self._is_bounded else Block()
        if block.key is not None:
            self.evicted += 1
            copies = self._copies[block.key]
            del copies[block]
            if not copies:
                del self._copies[block.key]
            block.key = None
        block.users = 1
        self.pinned += 1
        return block

    def publish(self, block: Block, key: bytes) -> None:
        """Let a block that is full now be found."""
        block.key = key
        self._copies.setdefault(key, {})[block] = None

    def release(self, chain: Sequence[Block]) -> None:
        """Free a call's blocks, its tail first."""
        for block in reversed(chain):
            block.users -= 1
            if not block.users:
                self.pinned -= 1
                self._free[block] = None
                if block.key is None and self._blanks_first:
                    self._free.move_to_end(block, last=False)
