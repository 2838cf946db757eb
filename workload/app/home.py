"""What an app keeps for the life of the process: the address that it calls, and the event loop that it runs on.

A compiled graph reads the address once, when it is imported, and its connections belong to the loop that opened them;
but each block of a run has a new engine, and each load a new loop. So there is one tap, which is aimed at each engine
in turn, and one loop of the app's own, on which it can block nobody but itself.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from workload.services.own_thread import in_own_thread
from workload.tap.proxy import Proxy
from workload.tap.serving import Tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workload.app.tapped import TappedCalls

_LOG = logging.getLogger(__name__)
APP_THREADS = 256
TICK_SECONDS = 0.05
BLOCKED_SECONDS = 0.5


class AppHome:
    """The tap and the loop."""

    def __init__(self) -> None:
        self._proxy = Proxy("", _closed)
        self.tap = Tap(self._proxy)
        self.tap.__enter__()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(APP_THREADS, "app"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="app", daemon=True)
        self._ticked = time.monotonic()
        self._warned: set[str] = set()
        self._loop.call_soon(self._tick)
        self._thread.start()
        atexit.register(self.tap.__exit__)

    @contextmanager
    def aimed(self, endpoint: str, calls: TappedCalls) -> Iterator[None]:
        """Aim the tap at an engine inside the block."""
        self._proxy.upstream, self._proxy.opens = endpoint, calls.open
        try:
            yield
        finally:
            self._proxy.opens = _closed
            calls.end()

    async def invoke(self, app: Any, given: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
        """Return what the app answers. Raises what it raises; a cancellation reaches it."""
        if not hasattr(app, "ainvoke"):
            return await in_own_thread(app.invoke, given, config)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(app.ainvoke(given, config), self._loop))

    def visited(self, node: str) -> None:
        """Note that a visit ends now: if the loop has not ticked for long, this node has blocked it."""
        seconds = time.monotonic() - self._ticked
        is_blocked = threading.current_thread() is self._thread and seconds > BLOCKED_SECONDS
        if is_blocked and node not in self._warned:
            self._warned.add(node)
            _LOG.warning(
                "The app's node %r blocked its event loop for %.1f s, and with it all its questions: make it a plain "
                "function, or await what it waits for.",
                node,
                seconds,
            )

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        self._loop.call_later(TICK_SECONDS, self._tick)


@cache
def app_home() -> AppHome:
    """Return the process's home of an app."""
    return AppHome()


def _closed(_: object) -> Any:
    raise ConnectionAbortedError("no engine runs")
