"""The accounts of calls that have ended, until their events have arrived."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from workload.fleet.lookup import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workload.fleet.account import Account
    from workload.fleet.block_index import BlockIndex
    from workload.fleet.blocks import Block
    from workload.fleet.events import Batch, EngineId, Stored
    from workload.fleet.lookup import Lookup

CLOCK_SECONDS = 0.05
"""How far the clocks of engines and ours may be apart, where only token ids connect an event to a call."""


@dataclass(eq=False, slots=True)
class OpenAccount:
    """An account that is still open.

    Attributes:
        prompt: the call's prompt, with its account.
        lookups: what each engine found that has looked up the prompt.
        admitted: the engines that have begun to compute blocks of it.
        computing: the keys of the blocks that one of them is still to compute.
        keys: the keys by which the account is found where events name no session.
        is_ambiguous: whether an event may be about this call or another one.
    """

    prompt: Prompt
    _: KW_ONLY
    lookups: dict[EngineId, Lookup] = field(default_factory=dict)
    admitted: set[EngineId] = field(default_factory=set)
    computing: set[bytes] = field(default_factory=set)
    keys: list[bytes] = field(default_factory=list)
    is_ambiguous: bool = False

    @property
    def account(self) -> Account:
        """The call."""
        return self.prompt.account

    @property
    def lookup(self) -> Lookup | None:
        """The one look-up of which it is certain that it served the call."""
        return next(iter(self.lookups.values())) if len(self.lookups) == 1 and not self.is_ambiguous else None

    def may_be_on(self, engine: EngineId) -> bool:
        """Return whether the engine may have served the call."""
        return self.account.server in {None, engine.server}

    def engine(self, engines: Iterable[EngineId]) -> EngineId | None:
        """Return which engine served the call; None if several may have."""
        if lookup := self.lookup:
            return lookup.engine
        possible = [engine for engine in engines if self.may_be_on(engine)]
        return possible[0] if len(possible) == 1 else None

    def first_missing(self, block_size: int) -> bytes | None:
        """Return the key of the first block that the call computed."""
        missing = self.prompt.usable(block_size)[(self.account.cached_tokens or 0) // block_size :]
        return missing[0].key if missing else None

    def begin(self, index: BlockIndex) -> None:
        """Note which blocks the call computes from now on."""
        blocks = self.prompt.blocks(index.block_size)
        self.computing = {block.key for block in blocks[index.resident(blocks) :]}
        for key in self.computing:
            index.computing[key] = index.computing.get(key, 0) + 1

    def done(self, index: BlockIndex, keys: Iterable[bytes]) -> None:
        """Note that the call computes these blocks no longer."""
        for key in self.computing.intersection(keys):
            self.computing.discard(key)
            if index.computing.get(key, 0) > 1:
                index.computing[key] -= 1
            else:
                index.computing.pop(key, None)


class OpenAccounts:
    """The open accounts in the order in which their calls ended; an event's account is found by session or tokens."""

    def __init__(self) -> None:
        self._by_session: OrderedDict[str, OpenAccount] = OrderedDict()
        self._by_key: dict[bytes, list[OpenAccount]] = {}

    def __iter__(self) -> Iterator[OpenAccount]:
        return iter(self._by_session.values())

    def add(self, account: Account, indexes: Iterable[BlockIndex]) -> None:
        """Open an account; where an engine's events name no session, it is found by every block of its prompt."""
        opened = self._by_session[account.session] = OpenAccount(Prompt(account))
        sizes = {index.block_size for index in indexes if not index.has_sessions}
        opened.keys = [block.key for size in sizes for block in opened.prompt.blocks(size)]
        for key in opened.keys:
            self._by_key.setdefault(key, []).append(opened)

    def pop(self, until: float) -> Iterator[OpenAccount]:
        """Remove and yield the accounts of calls that ended until then."""
        while self._by_session and (opened := next(iter(self))).account.ended <= until:
            self._by_session.popitem(last=False)
            for key in opened.keys:
                self._by_key[key].remove(opened)
                if not self._by_key[key]:
                    del self._by_key[key]
            yield opened

    def whose(self, batch: Batch, index: BlockIndex, event: Stored, blocks: list[Block]) -> OpenAccount | None:
        """Return the account of the call that an event is about; None if it is another's, or if it may be another's."""
        if event.session is not None:
            opened = self._by_session.get(event.session)
            return opened if opened and opened.may_be_on(batch.engine) else None
        if index.has_sessions or not blocks:
            return None
        key = blocks[0].key
        found = [
            opened
            for opened in self._by_key.get(key, ())
            if opened.may_be_on(batch.engine)
            and opened.account.started - CLOCK_SECONDS <= batch.at <= opened.account.ended + CLOCK_SECONDS
        ]
        misses = [opened for opened in found if opened.first_missing(index.block_size) == key]
        for opened in misses:
            opened.is_ambiguous |= len(found) > 1
        return misses[0] if misses and len(found) == 1 else None
