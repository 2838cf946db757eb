"""Keeps the ledger of running calls in a thread of its own, from the events of engines and the accounts of calls."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

from workload.fleet.ledger import Ledger
from workload.fleet.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.fleet.account import Account, Entry
    from workload.fleet.event_source import EventSource
    from workload.fleet.events import Batch, EngineId

TICK_SECONDS = 0.25


class LedgerThread:
    """Takes calls of one server from any thread, and calls each account's `on_close` in its own; a context manager.

    At its end it reads the events that were published until then, and closes every account.

    Args:
        block_sizes: tokens per block of each engine.
        sources: where engines publish events; the others are silent.
        wall: seconds since 1970.
        names_calls: whether events name the session of their call.

    Attributes:
        needs_session: whether calls need a session and the full report.
    """

    def __init__(
        self,
        block_sizes: Mapping[EngineId, int],
        sources: Sequence[EventSource],
        wall: Callable[[], float] = time.time,
        *,
        names_calls: bool = True,
    ) -> None:
        self.needs_session = bool(sources) and names_calls
        self._wall = wall
        self._ledger = Ledger(block_sizes, silent=block_sizes.keys() - {source.engine for source in sources})
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._stack = ExitStack()
        self._sources = sources

    def __enter__(self) -> Self:
        self._thread.start()
        self._stack.callback(self._stop)
        if self._sources:
            self._stack.enter_context(Subscription(self._sources, self._take, self._wall))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def send(self, session: str, at: float) -> None:
        """Note that a call is sent; `end` or `drop` must follow."""
        self._inbox.put(partial(self._ledger.send, session, at))

    def drop(self, session: str) -> None:
        """Forget a call that failed."""
        self._inbox.put(partial(self._ledger.drop, session))

    def end(self, account: Account) -> None:
        """Take the account of a call that has ended."""
        self._inbox.put(partial(self._ledger.end, account))

    def _take(self, batch: Batch) -> None:
        self._inbox.put(partial(self._ledger.take, batch))

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
                step()
            if time.monotonic() >= due:
                _close(self._ledger.advance(self._wall()))
                due = time.monotonic() + TICK_SECONDS
        _close(self._ledger.advance())


def _close(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.account.on_close:
            entry.account.on_close(entry)
