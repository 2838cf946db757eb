"""Keeps the ledger of running calls in a thread of its own, from the events of engines and the accounts of calls."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from workload.fleet.entry import entry_of
from workload.fleet.events import Batch, Lost
from workload.fleet.ledger import Ledger
from workload.fleet.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.fleet.account import Account
    from workload.fleet.entry import Entry
    from workload.fleet.event_source import EventSource
    from workload.fleet.events import EngineId

TICK_SECONDS = 0.25
log = logging.getLogger(__name__)


class LedgerThread:
    """Takes calls from any thread, and calls each account's `on_close` in its own; a context manager.

    At its end it reads the events that were published until then, and closes every account. A failure closes the open
    accounts as unknown; from then on nothing is known about a cache until it is cleared.

    Args:
        block_sizes: tokens per block of each engine.
        sources: where engines publish events; the others are silent.
        wall: seconds since 1970.
        on_failure: called for each failure of the ledger, of the subscription or of an `on_close`.
        names_calls: whether events name the session of their call.
        servers: the address of the server whose answers have a fingerprint.

    Attributes:
        needs_session: whether calls need a session and the full report.
    """

    def __init__(
        self,
        block_sizes: Mapping[EngineId, int],
        sources: Sequence[EventSource],
        wall: Callable[[], float] = time.time,
        on_failure: Callable[[], object] = lambda: None,
        *,
        names_calls: bool = True,
        servers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.needs_session = bool(sources) and names_calls
        self._block_sizes, self._sources, self._wall, self._on_failure = block_sizes, sources, wall, on_failure
        self._has_failed = False
        self._servers = servers
        self._ledger = self._begin()
        self._open: dict[str, Account] = {}
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        self._stack.callback(self._stop)
        if self._sources:
            subscription = Subscription(self._sources, self._take, self._wall, on_failure=self._failed)
            self._stack.enter_context(subscription)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def server_of(self, fingerprint: object) -> str | None:
        """Return the server that answered, as the answer's fingerprint says; None if it says nothing."""
        return self._servers.get(fingerprint) if isinstance(fingerprint, str) else None

    def send(self, session: str, at: float) -> None:
        """Note that a call is sent; `end` or `drop` must follow."""
        self._inbox.put(lambda: self._ledger.send(session, at))

    def drop(self, session: str) -> None:
        """Forget a call that failed."""
        self._inbox.put(lambda: self._ledger.drop(session))

    def end(self, account: Account) -> None:
        """Take the account of a call that has ended."""
        self._inbox.put(lambda: self._end(account))

    def _begin(self) -> Ledger:
        silent = self._block_sizes.keys() - {source.engine for source in self._sources}
        return Ledger(self._block_sizes, silent=silent)

    def _end(self, account: Account) -> None:
        self._open[account.session] = account
        self._ledger.end(account)

    def _take(self, batch: Batch) -> None:
        self._inbox.put(lambda: self._ledger.take(batch))

    def _stop(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + TICK_SECONDS
        while True:
            with suppress(Empty):
                step = self._inbox.get(timeout=max(due - time.monotonic(), 0))
                if step is None:
                    break
                self._safely(step)
            if time.monotonic() >= due:
                self._safely(lambda: self._close(self._ledger.advance(self._wall())))
                due = time.monotonic() + TICK_SECONDS
        self._safely(lambda: self._close(self._ledger.advance()))

    def _safely(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - if the thread ended, no later call would have an account
            self._failed(error)
            self._ledger = self._begin()
            for source in self._sources:
                self._ledger.take(Batch(source.engine, 0.0, 0.0, (Lost("the ledger failed"),)))
            size = min(self._block_sizes.values())
            self._close([entry_of(account, size) for account in self._open.values()])

    def _close(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._open.pop(entry.account.session, None)
            try:
                if entry.account.on_close:
                    entry.account.on_close(entry)
            except Exception as error:  # noqa: BLE001 - one entry that cannot be kept must not cost the others
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Count a failure, and say the first: one that repeats would fill the log."""
        self._on_failure()
        if not self._has_failed:
            self._has_failed = True
            log.error("The ledger of prompt tokens failed; what it no longer knows is unknown.", exc_info=error)
