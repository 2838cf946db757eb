"""The ledger: every prompt token of every call gets one fate, from KV cache events and the calls' responses.

Events arrive after the step that they describe, and a call's prompt and hits are known only when it ends. So an event
is applied once every call that was sent before its arrival has ended; events of several engines are applied in the
order of their clocks. An account is closed once the call's events must have been applied.
"""

from __future__ import annotations

import heapq
from math import inf
from typing import TYPE_CHECKING

from workload.fleet.admission import Admissions
from workload.fleet.block_index import CAPACITY_BLOCKS
from workload.fleet.entry import entry_of
from workload.fleet.lookup import Fleet
from workload.fleet.open_account import OpenAccounts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from workload.fleet.account import Account
    from workload.fleet.entry import Entry
    from workload.fleet.events import Batch, EngineId
    from workload.fleet.open_account import OpenAccount

SETTLE_SECONDS = 0.5
"""How long an event waits for earlier ones of other engines."""
PATIENCE_SECONDS = 2.0
"""How long after its end a call's events may arrive; the latest of 1,588 came 0.17 s later."""
MAX_BATCHES = 100_000
"""The most batches that wait for calls to end."""


class Ledger:
    """Accounts and events of a fleet.

    Not safe for threads: one thread calls it. Instants are in seconds since 1970.

    Args:
        block_sizes: tokens per block of each engine.
        silent: the engines that publish no events; causes that need events are unknown for their calls.
        capacity_blocks: see `BlockIndex`.
    """

    def __init__(
        self,
        block_sizes: Mapping[EngineId, int],
        silent: Collection[EngineId] = (),
        capacity_blocks: int = CAPACITY_BLOCKS,
    ) -> None:
        self._fleet = Fleet(block_sizes, capacity_blocks)
        self._accounts = OpenAccounts()
        self._admissions = Admissions(self._fleet, self._accounts)
        self._sent: dict[str, float] = {}
        self._batches: list[tuple[float, int, Batch]] = []  # a heap by time, then number
        self._latest: dict[EngineId, float] = {}
        self._number = 0
        self._silent = frozenset(silent)
        for engine in silent:
            self._fleet.engines[engine].lose("it publishes no events")

    def send(self, session: str, at: float) -> None:
        """Note that a call is sent; `end` or `drop` must follow."""
        self._sent[session] = at

    def drop(self, session: str) -> None:
        """Forget a call that failed: it has no account."""
        self._sent.pop(session, None)

    def end(self, account: Account) -> None:
        """Take the account of a call that has ended."""
        self._sent.pop(account.session, None)
        self._accounts.add(account, self._fleet.engines.values())

    def take(self, batch: Batch) -> None:
        """Take events, in the order in which their engine published them."""
        at = max(batch.at, self._latest.get(batch.engine, -inf))
        self._latest[batch.engine] = at
        self._number += 1
        heapq.heappush(self._batches, (at, self._number, batch))

    def advance(self, now: float = inf) -> list[Entry]:
        """Apply the events that are due at this instant, and return the accounts that can be closed; inf closes all."""
        while self._batches and self._is_due(self._batches[0][2], now):
            self._admissions.apply(heapq.heappop(self._batches)[2])
        applied = min([now - SETTLE_SECONDS, *(batch.received for _, _, batch in self._batches[:1])])
        return [self._close(opened) for opened in self._accounts.pop(applied - PATIENCE_SECONDS)]

    def _is_due(self, batch: Batch, now: float) -> bool:
        if now == inf or len(self._batches) > MAX_BATCHES:
            return True
        first_sent = next(iter(self._sent.values()), inf)
        return batch.received + SETTLE_SECONDS <= now and batch.received < first_sent

    def _close(self, opened: OpenAccount) -> Entry:
        account, lookup, engines = opened.account, opened.lookup, self._fleet.engines
        served = opened.engine(engines)
        for engine, index in engines.items():
            if engine in opened.admitted:
                opened.done(index, list(opened.computing))
            if index.doubt and engine not in self._silent and opened.may_be_on(engine):
                self._fleet.assume(account, engine, is_certain=served == engine)
        possible = [engine for engine in engines if opened.may_be_on(engine)] or list(engines)
        size = engines[served or possible[0]].block_size
        return entry_of(account, size, served, lookup.fates if lookup else None, lookup.chain if lookup else None)
