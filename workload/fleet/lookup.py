"""What a call finds when an engine looks up its prompt, and why it does not find the rest."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from workload.fleet.account import missing_tokens, usable_blocks
from workload.fleet.block_index import CAPACITY_BLOCKS, BlockIndex
from workload.fleet.blocks import blocks_of
from workload.fleet.entry import Chain
from workload.fleet.key_filter import KeyFilter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.fleet.account import Account, Fate
    from workload.fleet.blocks import Block
    from workload.fleet.events import EngineId


class Prompt:
    """The prompt of an account, in blocks of the sizes that engines have."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._blocks: dict[int, list[Block]] = {}

    def blocks(self, block_size: int) -> list[Block]:
        """Return all full blocks."""
        if block_size not in self._blocks:
            self._blocks[block_size] = blocks_of(self.account.prompt, block_size, self.account.world)
        return self._blocks[block_size]

    def usable(self, block_size: int) -> list[Block]:
        """Return the blocks that can be reused."""
        return self.blocks(block_size)[: usable_blocks(len(self.account.prompt), block_size)]


class Lookup(NamedTuple):
    """What was found.

    Attributes:
        engine: whose cache was looked up.
        found: tokens that the cache contained; None if its content is not known.
        fates: tokens in usable blocks that were not hits, by fate.
        chain: None if the content of an engine's cache is not known or contradicts the response.
    """

    engine: EngineId
    found: int | None
    fates: Mapping[str, int]
    chain: Chain | None


class Fleet:
    """The caches of all engines at one moment."""

    def __init__(self, block_sizes: Mapping[EngineId, int], capacity_blocks: int = CAPACITY_BLOCKS) -> None:
        self.engines = {engine: BlockIndex(size, capacity_blocks) for engine, size in block_sizes.items()}
        self._capacity_blocks = capacity_blocks
        # The tag of each block stored under a salt or adapter; None for several.
        self._worlds: OrderedDict[bytes, bytes | None] = OrderedDict()
        self._forgotten = KeyFilter()

    def join(self, engine: EngineId, block_size: int | None) -> BlockIndex:
        """Return the cache of an engine that joins, which has blocks of this size, or of that of another engine."""
        known = [index.block_size for index in self.engines.values()]
        self.engines[engine] = BlockIndex(block_size or [*known, 16][0], self._capacity_blocks)
        return self.engines[engine]

    def remember_worlds(self, blocks: Sequence[Block]) -> None:
        """Remember which of these blocks were stored under a salt or adapter."""
        for block in blocks:
            if block.tag and self._worlds.setdefault(block.digest, block.tag) != block.tag:
                self._worlds[block.digest] = None
        while len(self._worlds) > self._capacity_blocks:
            self._forgotten.add(self._worlds.popitem(last=False)[0])

    def assume(self, account: Account, engine: EngineId, *, is_certain: bool) -> None:
        """Remember that a call left its blocks in the cache of an engine whose events are missing.

        Where it is not certain that it did so before the cache is cleared, their fate is unknown from then on.
        """
        index = self.engines[engine]
        blocks = blocks_of([*account.prompt, *account.output[:-1]], index.block_size, account.world)
        index.assume(blocks, is_certain=is_certain)
        self.remember_worlds(blocks)

    def look_up(self, prompt: Prompt, engine: EngineId) -> Lookup:
        """Return what the engine finds of a prompt now."""
        index = self.engines[engine]
        size, usable, account = index.block_size, prompt.usable(index.block_size), prompt.account
        here, hit = index.resident(usable), account.cached_tokens
        chain = None if hit is None else self._chain(prompt, engine, here * size, hit)
        if hit is None or index.doubt is not None or here * size != hit:
            found = None if index.doubt is not None else here * size
            return Lookup(engine, found, {"unknown": missing_tokens(account, size)}, chain)
        fates: Counter[str] = Counter()
        for place in range(here, len(usable)):
            fates[self._fate(prompt, engine, usable[place], place)] += size
        return Lookup(engine, hit, fates, chain)

    def _fate(self, prompt: Prompt, engine: EngineId, block: Block, place: int) -> Fate:
        index = self.engines[engine]
        if index.copies(block.key):
            return "behind"
        if past := index.past(block.key):
            return "unknown" if past == "forgotten" else past
        if index.computing.get(block.key):
            return "flight"
        end = (place + 1) * index.block_size
        return (len(self.engines) > 1 and self._elsewhere(prompt, engine, end)) or self._never(block)

    def _elsewhere(self, prompt: Prompt, engine: EngineId, end: int) -> Fate | None:
        """Return what other engines say about the block that ends `end` tokens after the prompt's beginning."""
        said: list[Fate] = []
        for other, index in self.engines.items():
            blocks = prompt.blocks(index.block_size)[: -(-end // index.block_size)]
            if other == engine or not blocks or len(blocks) * index.block_size < end:
                continue
            key = blocks[-1].key
            past = index.past(key)
            if index.copies(key):
                return "elsewhere"
            if index.doubt is not None or past == "forgotten":
                said.append("unknown")
            elif past:
                said.append(past)
        return "unknown" if "unknown" in said else said[0] if said else None

    def _never(self, block: Block) -> Fate:
        """Return the fate of a block that no engine ever had under the prompt's salt and adapter."""
        if self._worlds.get(block.digest, block.tag) != block.tag:
            return "salt"
        if block.tag and any(index.copies(block.digest) or index.past(block.digest) for index in self.engines.values()):
            return "salt"
        return "unknown" if block.digest in self._forgotten else "cold"

    def _chain(self, prompt: Prompt, engine: EngineId, here: int, delivered: int) -> Chain | None:
        if here < delivered or any(index.doubt is not None for index in self.engines.values()):
            return None
        best = here
        for other, index in self.engines.items():
            if other != engine:
                best = max(best, index.resident(prompt.usable(index.block_size)) * index.block_size)
        return Chain(max(self._ever(prompt, size, best) for size in self._sizes()), best, here, delivered)

    def _sizes(self) -> set[int]:
        return {index.block_size for index in self.engines.values()}

    def _ever(self, prompt: Prompt, block_size: int, known: int) -> int:
        """Return the tokens in blocks from the first on, `known` ones included, that any cache once contained."""
        indexes = [index for index in self.engines.values() if index.block_size == block_size]
        for block in prompt.usable(block_size)[known // block_size :]:
            if not any(index.copies(block.key) or index.past(block.key) for index in indexes):
                break
            known += block_size
        return known
