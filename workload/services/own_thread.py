"""Runs blocking functions, each in a thread of its own."""

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
    """Return what `function` returns, called in a new thread. Raises what it raises.

    `asyncio.to_thread` shares a few threads: if some hang on a slow server, other callers wait and the process cannot
    end. Here each caller waits for its own call only, and a call that never returns does not delay the end.
    """
    future: Future[ResultT] = Future()

    def call() -> None:
        future.set_running_or_notify_cancel()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=call, name=getattr(function, "__name__", "call"), daemon=True).start()
    return await asyncio.wrap_future(future)


class OneByOne:
    """Runs slow functions one at a time, each in a thread of its own and for a limited time.

    Args:
        seconds: how long one may take, with the wait for the one before it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._latest: asyncio.Future[Any] | None = None

    async def run(self, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """Return what `function` returns. Raises what it raises.

        Raises:
            TimeoutError: it took too long; it continues, and the next call waits until it has ended.
        """
        async with self._lock, asyncio.timeout(self._seconds):
            if self._latest:
                await asyncio.wait([self._latest])
            call = asyncio.ensure_future(in_own_thread(function, *args, **kwargs))
            call.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._latest = call
            return await asyncio.shield(call)
