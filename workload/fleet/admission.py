"""Applies events to the caches of a fleet, and finds what each call found there.

Within a step, vLLM reports for each call what it reuses (only if the call asks for the full report), then what it
evicts for the call, then the blocks that it computes. So a call's look-up lies before its report: the last one that
agrees with the response, because a call that waits for free blocks reports in every step, and a preempted one again.
Without a report it lies before the evictions that precede the call's first blocks, except those that made room for a
call that filled no block in the step: there it lies where the cache contained what the response says.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from workload.fleet.account import missing_tokens
from workload.fleet.events import Cleared, Lost, Removed, Stored

if TYPE_CHECKING:
    from workload.fleet.block_index import BlockIndex
    from workload.fleet.blocks import Block
    from workload.fleet.events import Batch, EngineId
    from workload.fleet.lookup import Fleet, Lookup
    from workload.fleet.open_account import OpenAccount, OpenAccounts


class Admissions:
    """What the engines did, in their order, for the calls whose accounts are open."""

    def __init__(self, fleet: Fleet, accounts: OpenAccounts) -> None:
        self._fleet, self._accounts = fleet, accounts

    def apply(self, batch: Batch) -> None:
        """Apply the events of one step."""
        index = self._fleet.engines.get(batch.engine)
        if index is None:
            sizes = [event.block_size for event in batch.events if isinstance(event, Stored)]
            index = self._fleet.join(batch.engine, sizes[0] if sizes else None)
        evicted: list[Removed] = []
        for event in batch.events:
            if isinstance(event, Removed):
                evicted.append(event)
                continue
            if isinstance(event, Stored):
                self._store(batch, index, event, evicted)
            _evict(index, evicted)
            if isinstance(event, Cleared):
                self._make_up(batch, index)
                index.clear()
            elif isinstance(event, Lost):
                index.lose(event.cause)
        _evict(index, evicted)

    def _make_up(self, batch: Batch, index: BlockIndex) -> None:
        """Take from the calls what was stored until a clear, where events are missing."""
        for opened in self._accounts if index.doubt else ():
            if opened.may_be_on(batch.engine) and opened.account.started < batch.received:
                is_on, is_over = opened.engine(self._fleet.engines) == batch.engine, opened.account.ended < batch.at
                self._fleet.assume(opened.account, batch.engine, is_certain=is_on and is_over)

    def _store(self, batch: Batch, index: BlockIndex, event: Stored, evicted: list[Removed]) -> None:
        """Apply an event that names blocks, and before it the evictions that precede it."""
        engine = batch.engine
        index.has_sessions |= event.session is not None
        blocks = index.blocks(event) if event.block_size == index.block_size else None
        opened = self._accounts.whose(batch, index, event, blocks or [])
        is_first = opened is None or engine not in opened.admitted
        if blocks is None:
            if opened:
                opened.admitted.add(engine)
            if index.doubt is None:
                index.lose("blocks of another size, or after a block that was never stored")
            return
        may_end = is_first and (opened is None or len(opened.account.prompt) <= index.block_size)
        if _is_report(index, event, blocks, evicted, may_end=may_end):
            _evict(index, evicted)
            if opened and is_first:
                lookup = self._fleet.look_up(opened.prompt, engine)
                if lookup.found == opened.account.cached_tokens or engine not in opened.lookups:
                    opened.lookups[engine] = lookup
            return
        if opened and is_first:
            opened.admitted.add(engine)
            if event.parent is None or engine not in opened.lookups:
                opened.lookups[engine] = self._look_up(index, opened, engine, evicted)
            opened.begin(index)
        _evict(index, evicted)
        index.store(event, blocks)
        self._fleet.remember_worlds(blocks)
        if opened:
            opened.done(index, [block.key for block in blocks])

    def _look_up(self, index: BlockIndex, opened: OpenAccount, engine: EngineId, evicted: list[Removed]) -> Lookup:
        """Return what a call without a report has found; evictions that it cannot have made are applied."""
        hit, lookup = opened.account.cached_tokens, self._fleet.look_up(opened.prompt, engine)
        while evicted and lookup.found not in {None, hit}:
            index.remove(evicted.pop(0))
            lookup = self._fleet.look_up(opened.prompt, engine)
        if not index.names(evicted, opened.prompt.usable(index.block_size)):
            return lookup
        _evict(index, evicted)
        after = self._fleet.look_up(opened.prompt, engine)
        if after.found == hit and after.fates != lookup.fates:  # either place is possible
            return lookup._replace(fates={"unknown": missing_tokens(opened.account, index.block_size)})
        return lookup


def _evict(index: BlockIndex, evicted: list[Removed]) -> None:
    for event in evicted:
        index.remove(event)
    evicted.clear()


def _is_report(index: BlockIndex, event: Stored, blocks: list[Block], evicted: list[Removed], *, may_end: bool) -> bool:
    """Return whether an event names blocks that a call reuses: the beginning of a prompt, of which all is cached.

    The exception is a single block that is computed anew because its prompt may end there.
    """
    if event.parent is not None or (may_end and len(blocks) == 1):
        return False
    if not all(index.copies(block.key) for block in blocks):
        return False
    leaving = Counter(name for each in evicted for name in each.hashes)
    names = zip(event.hashes, blocks, strict=True)
    return not leaving or all(index.copies(block.key) > leaving[name] for name, block in names)
