"""Runs the handling of events one at a time, without ever blocking the app for good."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK_SECONDS = 1.0


class Events:
    """Handles events one at a time.

    The garbage collector may end an abandoned stream at any point of any thread, also within the handling of another
    event or within a scrape, which has locks of its own. Such an event waits for the next one instead of for a lock.

    Args:
        failed: called while the exception of a handling is handled.
    """

    def __init__(self, failed: Callable[[], None]) -> None:
        self._failed = failed
        self._lock = threading.Lock()
        self._thread = 0
        self._deferred: deque[Callable[[], None]] = deque()

    def handle(self, event: Callable[[], None]) -> None:
        """Handle an event, and then those that were deferred meanwhile."""
        thread = threading.get_ident()
        if thread == self._thread or not self._lock.acquire(timeout=LOCK_SECONDS):
            self._deferred.append(event)
            return
        self._thread = thread
        try:
            self._run(event)
            while self._deferred:
                self._run(self._deferred.popleft())
        finally:
            self._thread = 0
            self._lock.release()

    def _run(self, event: Callable[[], None]) -> None:
        try:
            event()
        except Exception:  # noqa: BLE001 - whatever happens to metering, the app goes on
            self._failed()
