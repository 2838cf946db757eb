"""A simulator of vLLM's block pool, as an oracle of what its cache contained: it compares tokens and hashes nothing.

As in vLLM, full blocks can be found from the moment at which the scheduler plans them, the block that was free for
longest is evicted first, a call frees the end of its sequence first, and a call that lacks a block preempts the
youngest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

Prefix = tuple[str, tuple[int, ...]]


@dataclass(eq=False)
class SimulatedCall:
    """A call; `cached_tokens` and `fates` (of its usable blocks, in order) are known once it is admitted."""

    session: str
    prompt: list[int]
    output: list[int]
    world: str = ""
    started: float = 0.0
    talk: int = 0
    ended: float | None = None
    cached_tokens: int | None = None
    fates: list[str] = field(default_factory=list)
    produced: int = 0
    computed: int = 0
    blocks: list[Block] = field(default_factory=list)
    stored: int = 0

    @property
    def sequence(self) -> list[int]:
        """The tokens so far."""
        return [*self.prompt, *self.output[: self.produced]]


@dataclass(eq=False)
class Block:
    """A block of the pool, and what it contains."""

    prefix: Prefix | None = None
    users: int = 0


class SimulatedEngine:
    """One engine.

    Args:
        blocks: size of the pool.
        size: tokens per block.
        budget: most tokens that a call computes in one step.
        full: whether calls ask for the full report.
        has_sessions: whether events name the session.
    """

    def __init__(self, blocks: int, size: int, budget: int, *, full: bool = True, has_sessions: bool = True) -> None:
        self.size, self.budget, self.full, self.has_sessions = size, budget, full, has_sessions
        self.pool = [Block() for _ in range(blocks)]
        self.free = list(self.pool)
        self.running: list[SimulatedCall] = []
        self.waiting: list[SimulatedCall] = []
        self.events: list[dict[str, Any]] = []
        self.past: dict[Prefix, int] = {}
        self.era = 0
        self.others: list[SimulatedEngine] = []
        self.names: dict[Prefix, int] = defaultdict(lambda: len(self.names) + 1)
        self.preemptions = 0

    def found(self, prefix: Prefix) -> Block | None:
        """Return a block with these contents."""
        return next((block for block in self.pool if block.prefix == prefix), None)

    def clear(self) -> None:
        """Reset the prefix cache, which only works while no call is running."""
        for block in self.pool:
            block.prefix = None
        self.era += 1
        self.events.append({"type": "AllBlocksCleared"})

    def step(self, now: float) -> list[dict[str, Any]]:
        """Run one step that ends at `now`, and return its events."""
        planned = [call for call in list(self.running) if call in self.running and self._continue(call)]
        while self.waiting and self._admit(self.waiting[0]):
            planned.append(self.waiting.pop(0))
            self.running.append(planned[-1])
        for call in planned:
            if call in self.running and call.computed == len(call.sequence):
                call.produced += 1
                if call.produced >= len(call.output):
                    call.ended = now
                    self.running.remove(call)
                    self._release(call)
        events, self.events = self.events, []
        return events

    def _continue(self, call: SimulatedCall) -> bool:
        tokens = min(self.budget, len(call.sequence) - call.computed)
        while (lacking := self._lacking(call, tokens)) > len(self.free):
            victim = self.running.pop()
            self.preemptions += 1
            self._release(victim)
            self.waiting.insert(0, victim)
            if victim is call:
                return False
        self._compute(call, tokens, lacking)
        return True

    def _lacking(self, call: SimulatedCall, tokens: int) -> int:
        return -(-(call.computed + tokens) // self.size) - len(call.blocks)

    def _compute(self, call: SimulatedCall, tokens: int, lacking: int) -> None:
        for _ in range(lacking):
            block = self.free.pop(0)
            if block.prefix is not None:
                self.events.append(
                    {"type": "BlockRemoved", "block_hashes": [self.names[block.prefix]], "medium": "GPU"}
                )
                block.prefix = None
            block.users = 1
            call.blocks.append(block)
        call.computed += tokens
        full = call.computed // self.size
        if full > call.stored:
            prefixes = [self.prefix(call, place) for place in range(call.stored, full)]
            for prefix, block in zip(prefixes, call.blocks[call.stored : full], strict=True):
                block.prefix = prefix
                self.past[prefix] = self.era
            self._report(call, call.stored, prefixes)
            call.stored = full

    def prefix(self, call: SimulatedCall, place: int) -> Prefix:
        """Return the contents of a call's block."""
        return call.world, tuple(call.sequence[: (place + 1) * self.size])

    def _report(self, call: SimulatedCall, first: int, prefixes: list[Prefix]) -> None:
        end = (first + len(prefixes)) * self.size
        event = {
            "type": "BlockStored",
            "block_hashes": [self.names[prefix] for prefix in prefixes],
            "parent_block_hash": self.names[self.prefix(call, first - 1)] if first else None,
            "token_ids": call.sequence[first * self.size : end],
            "block_size": self.size,
            "medium": "GPU",
            "extra_keys": [[call.world] if call.world and not first else None] + [None] * (len(prefixes) - 1),
        }
        self.events.append({**event, "session_id": call.session} if self.has_sessions else event)

    def _admit(self, call: SimulatedCall) -> bool:
        usable = (len(call.sequence) - 1) // self.size
        hits: list[Block] = []
        while len(hits) < usable and (block := self.found(self.prefix(call, len(hits)))):
            hits.append(block)
        if hits and self.full:
            self._report(call, 0, [block.prefix for block in hits if block.prefix])
        tokens = min(self.budget, len(call.sequence) - len(hits) * self.size)
        lacking = -(-(len(hits) * self.size + tokens) // self.size) - len(hits)
        if lacking > len(self.free) - sum(block in self.free for block in hits):
            return False
        if call.cached_tokens is None:
            call.cached_tokens = len(hits) * self.size
            call.fates = [self._fate(call, place, len(hits)) for place in range(usable)]
        for block in hits:
            if block in self.free:
                self.free.remove(block)
            block.users += 1
        call.blocks, call.computed, call.stored = list(hits), len(hits) * self.size, len(hits)
        self._compute(call, tokens, lacking)
        return True

    def _release(self, call: SimulatedCall) -> None:
        for block in reversed(call.blocks):
            block.users -= 1
            if not block.users:
                self.free.append(block)
        call.blocks, call.computed, call.stored = [], 0, 0

    def _fate(self, call: SimulatedCall, place: int, hits: int) -> str:
        prefix = self.prefix(call, place)
        end = len(prefix[1])
        everywhere = [tokens for engine in (self, *self.others) for _, tokens in engine.past]
        computing = [(other.world, tuple(other.prompt[:end])) for other in self.running]
        causes = {
            "hit": place < hits,
            "behind": self.found(prefix),
            self._past(prefix): prefix in self.past,
            "flight": prefix in computing,
            "elsewhere": any(other.found(prefix) for other in self.others),
            **{f"{other._past(prefix)} ": prefix in other.past for other in self.others},
            "salt": prefix[1] in everywhere,
            "cold": True,
        }
        return next(cause for cause, holds in causes.items() if holds).strip()

    def _past(self, prefix: Prefix) -> str:
        return "evicted" if self.past.get(prefix) == self.era else "reset"


def fates_of(call: SimulatedCall, size: int) -> dict[str, int]:
    """Return a call's prompt tokens by fate."""
    counted = Counter(call.fates)
    tokens = {fate: count * size for fate, count in counted.items()}
    return {**tokens, "tail": len(call.prompt) - len(call.fates) * size}
