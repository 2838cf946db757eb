"""Applies the reuse bound to live calls in the order of their arrival at the engine.

Token ids come from the server (`return_token_ids`), so they need no second tokenizer and no extra request. But they
arrive with the first chunk, and concurrent calls may answer in another order. So calls queue in the order of sending,
and a call is matched once every earlier call has its prompt ids or has ended without them.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import KW_ONLY, dataclass
from threading import RLock
from typing import TYPE_CHECKING

from workload.theory.reuse_bound import TOKEN_TYPE, PrefixIndex, block_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(eq=False)
class Arrival:
    """A call in the order of sending; `hashes` are those of the full blocks of its prompt, computed once."""

    salt: str
    prompt: array[int] | None = None
    _: KW_ONLY
    hashes: list[bytes] | None = None
    output: array[int] | None = None
    is_closed: bool = False
    on_bound: Callable[[int], None] | None = None
    reusable: int | None = None


class ReuseOrder:
    """The reuse bound of calls that overlap in time; any thread may call it.

    Args:
        block_size: tokens per block, from the engine's `cache_config_info`; None if unknown, then there is no bound.
        capacity_blocks: the most blocks to remember, see `PrefixIndex`; None for all.
        adapter: the name of the LoRA adapter in use, which is part of vLLM's block hashes, as the salt is.
    """

    def __init__(self, block_size: int | None, capacity_blocks: int | None = None, adapter: str = "") -> None:
        self._index = PrefixIndex(block_size, capacity_blocks) if block_size else None
        self._world = f"{adapter}\0" if adapter else ""
        self._waiting: deque[Arrival] = deque()
        self._lock = RLock()
        self.calls = 0

    def send(self, salt: str) -> Arrival:
        """Register a call that is sent now."""
        arrival = Arrival(self._world + salt)
        with self._lock:
            self.calls += 1
            self._waiting.append(arrival)
        return arrival

    def prompt(self, arrival: Arrival, ids: Sequence[int]) -> None:
        """Take the prompt's token ids.

        Raises:
            TypeError, OverflowError: the server sent something other than token ids.
        """
        prompt = array(TOKEN_TYPE, ids)
        if self._index is not None:  # an empty index is falsy
            arrival.hashes = list(block_hashes(prompt, self._index.block_size, arrival.salt))
        arrival.prompt = prompt
        with self._lock:
            self._advance()

    def output(self, arrival: Arrival, ids: Sequence[int]) -> None:
        """Take the generated ids; their blocks serve later calls. Raises as `prompt` does."""
        arrival.output = array(TOKEN_TYPE, ids)
        with self._lock:
            if arrival.reusable is not None:
                self._remember_output(arrival)

    def close(self, arrival: Arrival, on_bound: Callable[[int], None]) -> None:
        """End a call; `on_bound` gets its reusable tokens once they are known: never, if its ids never arrived."""
        with self._lock:
            arrival.is_closed = True
            if arrival.reusable is not None:
                on_bound(arrival.reusable)
            else:
                arrival.on_bound = on_bound
                self._advance()

    def hashes(self, arrival: Arrival) -> bytes | None:
        """Return the hashes of the prompt's full blocks, joined; None if ids or block size are unknown."""
        return None if arrival.hashes is None else b"".join(arrival.hashes)

    def _advance(self) -> None:
        while self._waiting and (self._waiting[0].prompt is not None or self._waiting[0].is_closed):
            arrival = self._waiting.popleft()
            if arrival.prompt is None or arrival.hashes is None or self._index is None:
                continue
            arrival.reusable = self._index.observe_hashed(arrival.hashes, len(arrival.prompt))
            if arrival.output is not None:
                self._remember_output(arrival)
            if arrival.on_bound:
                arrival.on_bound(arrival.reusable)

    def _remember_output(self, arrival: Arrival) -> None:
        if self._index is None or arrival.prompt is None or arrival.hashes is None or arrival.output is None:
            return
        size = self._index.block_size
        rest = arrival.prompt[size * len(arrival.hashes) :] + arrival.output[:-1]
        parent = arrival.hashes[-1] if arrival.hashes else b""
        self._index.remember([*arrival.hashes, *block_hashes(rest, size, arrival.salt, parent)])
