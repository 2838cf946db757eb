"""The hit rate of every pool size in one pass over a trajectory, by stack distances.

vLLM frees a call's blocks from its tail and evicts what was freed first, so the cached blocks form a stack: the call
that ended last on top, its first block uppermost. A pool contains the top of that stack, whatever its size is, and a
block is found if the pool reaches down to it. So one pass gives, for each block that was found, the smallest pool that
still has it, and the number of those up to N blocks is the number of hits in a pool of N. Source of the method: Mattson
et al., "Evaluation techniques for storage hierarchies", 1970.

`workload.theory.eviction` replays one pool with vLLM's own queue. The curve differs from it in three ways: the block at
the end of a sequence counts as one, full or not; equal blocks are one block; a call that does not fit neither waits nor
preempts. Of calls one after the other it is off by one block of the pool at most.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.theory.eviction import blocks_of, moments, smallest_pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.theory.eviction import Call

NULL_BLOCK = 1


@dataclass(frozen=True)
class PoolCurve:
    """Hits by pool size.

    Attributes:
        block_size: tokens per block.
        prompt_tokens: of all calls.
        smallest: blocks of the smallest pool in which each call fits alone.
        needed: for each block that some pool has at its look-up, the smallest such pool in blocks, in ascending order.
            All sizes count the null block, as `num_gpu_blocks` does.
    """

    block_size: int
    prompt_tokens: int
    smallest: int
    needed: tuple[int, ...]

    def share(self, pool_blocks: int) -> float | None:
        """Return the reusable share of all prompt tokens; None if a call does not fit, or without prompt tokens."""
        if pool_blocks < self.smallest or not self.prompt_tokens:
            return None
        return bisect_right(self.needed, pool_blocks) * self.block_size / self.prompt_tokens

    @property
    def largest(self) -> int:
        """The blocks beyond which more bring nothing."""
        return max(self.smallest, self.needed[-1] if self.needed else 0)


def pool_curve(groups: Iterable[Sequence[Call]], block_size: int) -> PoolCurve:
    """Return the curve of some groups of calls in their order of arrival; each group begins with an empty pool.

    Raises:
        ValueError: only some calls of a group have a span, or a span is empty.
    """
    needed: list[int] = []
    tokens, smallest = 0, NULL_BLOCK
    for calls in groups:
        needed += _needed(calls, block_size)
        tokens += sum(call.prompt_tokens for call in calls)
        smallest = max(smallest, smallest_pool(calls, block_size))
    return PoolCurve(block_size, tokens, smallest, tuple(sorted(needed)))


def _needed(calls: Sequence[Call], block_size: int) -> list[int]:
    stack = _Stack(2 * sum(len(call.hashes) for call in calls))
    needed: list[int] = []
    reserved = 1  # of the call before, whose last block was seldom full
    for index, is_start in moments(calls):
        call = calls[index]
        if is_start:
            deepest = 0
            for key in call.hashes[: max(call.prompt_tokens - 1, 0) // block_size]:
                if (depth := stack.depth(key)) is None:
                    break
                deepest = max(deepest, depth)  # a block behind one that is missing is not found
                needed.append(deepest + reserved + NULL_BLOCK)
        unpublished = blocks_of(call, block_size) - call.prompt_tokens // block_size
        reserved += unpublished if is_start else -unpublished
        # A call in flight finds the blocks of its prompt published; those of its output follow at its end.
        for key in reversed(call.hashes[: call.prompt_tokens // block_size] if is_start else call.hashes):
            stack.touch(key)
    return needed


class _Stack:
    """Blocks in the order of their last use; a Fenwick tree over instants counts those used later than one."""

    def __init__(self, touches: int) -> None:
        self._counts = [0] * (touches + 1)
        self._used: dict[bytes, int] = {}
        self._now = 0

    def touch(self, key: bytes) -> None:
        if key in self._used:
            self._add(self._used[key], -1)
        self._now += 1
        self._used[key] = self._now
        self._add(self._now, 1)

    def depth(self, key: bytes) -> int | None:
        """Return the place of a block from the top, which is 1; None if it was never used."""
        used = self._used.get(key)
        return None if used is None else len(self._used) - self._until(used - 1)

    def _add(self, at: int, count: int) -> None:
        while at < len(self._counts):
            self._counts[at] += count
            at += at & -at

    def _until(self, at: int) -> int:
        total = 0
        while at:
            total += self._counts[at]
            at &= at - 1
        return total
