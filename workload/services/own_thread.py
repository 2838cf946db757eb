"""Runs what blocks in a thread that nothing else waits for."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


async def in_own_thread(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """Return what `function` returns, called in a thread that is begun for it. Raises what it raises.

    `asyncio.to_thread` has a handful of threads for everything: where some hang on a server that is slow, nobody else
    gets one, and the process does not end before they do. Here each caller waits for its own call only, and a call that
    never returns is left behind at the end.
    """
    future: Future[ResultT] = Future()

    def call() -> None:
        future.set_running_or_notify_cancel()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whoever waits must learn of it, whatever it is
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=call, name=getattr(function, "__name__", "call"), daemon=True).start()
    return await asyncio.wrap_future(future)


class OneByOne:
    """Runs what may take long one at a time, each in a thread of its own, for a limited time.

    Args:
        seconds: how long one may take, the rest of the one before it included.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._latest: asyncio.Future[Any] | None = None

    async def run(self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """Return what `function` returns. Raises what it raises.

        Raises:
            TimeoutError: it took too long; it is left to itself, and the next one waits until it has ended.
        """
        async with self._lock, asyncio.timeout(self._seconds):
            if self._latest:
                await asyncio.wait([self._latest])
            call = asyncio.ensure_future(in_own_thread(function, *args, **kwargs))
            call.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._latest = call
            return await asyncio.shield(call)
