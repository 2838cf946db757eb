"""The reuse bound under a pool of N blocks: calls replayed against vLLM's own order of eviction.

Sequential calls are replayed exactly; with an infinite pool the result is the bound of `workload.theory.reuse_bound`.
Calls that overlap in time are simplified in three ways: a call allocates the blocks of its output when it starts; its
prompt's blocks can be found from that moment; a call that does not fit waits instead of preempting another.

The pool has vLLM's rules for finding, allocating and freeing blocks. Free blocks form a queue: a call takes the head,
which evicts its content. A call frees its blocks from the tail of its chain, so tails reach the head first and prefixes
stay longest. Equal blocks are not merged: a block that is computed again becomes another copy, and the oldest copy is
the one found. Source: vLLM's `block_pool.BlockPool`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.theory.reuse_bound import block_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workload.statistics.paired import Interval


@dataclass(frozen=True)
class Call:
    """A call in tokens and chained block hashes.

    `computed_tokens` counts the prompt's tokens and the generated ones except the last, which is never computed;
    `hashes` are those of their full blocks; `span` is start and end in seconds, None for calls that never overlap.
    """

    prompt_tokens: int
    computed_tokens: int
    hashes: tuple[bytes, ...]
    span: Interval | None = None


@dataclass(frozen=True)
class Replay:
    """Reusable tokens of each call in the order given, the evicted blocks, and the most blocks pinned at once."""

    reusable_tokens: tuple[int, ...]
    evicted_blocks: int
    peak_pinned_blocks: int


def hashed(
    prompt: Sequence[int], output: Sequence[int], block_size: int, salt: str = "", span: Interval | None = None
) -> Call:
    """Return the call of `prompt` and `output` (token ids) in blocks of `block_size` tokens."""
    computed = [*prompt, *output[:-1]]
    return Call(len(prompt), len(computed), tuple(block_hashes(computed, block_size, salt)), span)


def smallest_pool(calls: Iterable[Call], block_size: int) -> int:
    """Return the size in blocks, with the null block, of the smallest pool in which each call fits alone."""
    return 1 + max((blocks_of(call, block_size) for call in calls), default=0)


def replay(
    calls: Sequence[Call], block_size: int, pool_blocks: int | None = None, *, blanks_first: bool = True
) -> Replay:
    """Replay calls in their order of arrival against a pool of blocks.

    Args:
        calls: all with a span, or all without one; then each ends before the next starts.
        block_size: tokens per block, as when the calls were hashed.
        pool_blocks: the engine's `num_gpu_blocks`, with the null block; None evicts nothing.
        blanks_first: as newer releases do; see `BlockPool`.

    Raises:
        ValueError: a call does not fit in the pool alone, only some calls have a span, or a span is empty.
    """
    if pool_blocks is not None and pool_blocks < smallest_pool(calls, block_size):
        needed = smallest_pool(calls, block_size)
        raise ValueError(f"A pool of {pool_blocks} blocks is too small; the largest call needs {needed}.")
    schedule = _Schedule(calls, block_size, BlockPool(pool_blocks, blanks_first=blanks_first))
    for index, is_start in moments(calls):
        if is_start:
            schedule.start(index)
        else:
            schedule.end(index)
    return Replay(tuple(schedule.reusable), schedule.pool.evicted, schedule.peak_pinned)


class _Schedule:
    def __init__(self, calls: Sequence[Call], block_size: int, pool: BlockPool) -> None:
        self.calls = calls
        self.block_size = block_size
        self.pool = pool
        self.reusable = [0] * len(calls)
        self.peak_pinned = 0
        self._running: dict[int, list[Block]] = {}
        self._waiting: deque[int] = deque()
        self._ended: set[int] = set()

    def start(self, index: int) -> None:
        self._waiting.append(index)
        self._admit()

    def end(self, index: int) -> None:
        self._ended.add(index)
        if index in self._running:
            self._release(index)
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            index = self._waiting[0]
            call = self.calls[index]
            found = self.pool.find(call.hashes[: max(call.prompt_tokens - 1, 0) // self.block_size])
            wanted = blocks_of(call, self.block_size) - len(found)
            if not self.pool.has_room(found, wanted):
                return
            self._waiting.popleft()
            self.pool.pin(found)
            self._running[index] = [*found, *(self.pool.take() for _ in range(wanted))]
            self._publish(index, len(found), call.prompt_tokens // self.block_size)
            self.reusable[index] = len(found) * self.block_size
            self.peak_pinned = max(self.peak_pinned, self.pool.pinned)
            # A call that waits longer here than in the engine may have ended already.
            if index in self._ended:
                self._release(index)

    def _release(self, index: int) -> None:
        call = self.calls[index]
        self._publish(index, call.prompt_tokens // self.block_size, len(call.hashes))
        self.pool.release(self._running.pop(index))

    def _publish(self, index: int, start: int, stop: int) -> None:
        for position in range(start, stop):
            self.pool.publish(self._running[index][position], self.calls[index].hashes[position])


def blocks_of(call: Call, block_size: int) -> int:
    """Return the blocks that a call needs, the partial one at its end included."""
    return -(-call.computed_tokens // block_size)


def moments(calls: Sequence[Call]) -> Iterator[tuple[int, bool]]:
    """Yield (index, whether it starts) in order of time; at one instant, ends come first."""
    spans = [call.span for call in calls]
    known = [span for span in spans if span is not None]
    if (known and len(known) < len(spans)) or any(end <= start for start, end in known):
        raise ValueError("All calls or none need a span, and each span must end after its start.")
    if not known:
        spans = [(2.0 * index, 2.0 * index + 1) for index in range(len(calls))]
    moments = [
        (instant, is_start, index)
        for index, span in enumerate(spans)
        if span is not None
        for instant, is_start in ((span[0], True), (span[1], False))
    ]
    yield from ((index, is_start) for _, is_start, index in sorted(moments))


@dataclass(eq=False)
class Block:
    """One block: the chained hash of its content, None while blank, and the number of calls that use it."""

    key: bytes | None = None
    users: int = 0


class BlockPool:
    """The blocks of an engine.

    Args:
        blocks: the engine's `num_gpu_blocks`, with vLLM's null block, which caches nothing; None is infinite.
        blanks_first: whether freed blank blocks go to the head of the queue. Before vLLM pull request 42656 they went
            to the tail as all others.
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
        """Return whether `wanted` more blocks are free once those found are pinned."""
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
        """Make a full block findable."""
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
