"""Calls that may hang: each runs in a thread of its own, and nothing waits for it beyond its time limit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass
class PendingCall(Generic[T]):
    """A call in progress, or finished. `started` and `ended` are readings of `clock`, in seconds."""

    seconds: float
    started: float
    clock: Callable[[], float]
    answer: Future[T] = field(default_factory=Future)
    ended: float | None = None

    @property
    def age(self) -> float:
        """Seconds from the start of the call to its end, or to now."""
        return (self.clock() if self.ended is None else self.ended) - self.started

    def wait(self) -> T:
        """Return the result; wait for the rest of the time limit.

        Raises:
            TimeoutError: the time limit has passed without a result.
            Exception: whatever the call raised.
        """
        return self.answer.result(max(0.0, self.seconds - self.age))


@dataclass(eq=False)
class TimedCall(Generic[T]):
    """Runs one function again and again, never twice at the same time: at most one thread hangs.

    Args:
        function: what is called; it may hang forever and raise anything.
        seconds: the time limit of each call.
    """

    function: Callable[[], T]
    seconds: float
    name: str
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _pending: PendingCall[T] | None = field(init=False, default=None)

    def begin(self) -> PendingCall[T]:
        """Start a call, or return the one in progress."""
        with self._lock:
            if self._pending is None or self._pending.answer.done():
                self._pending = PendingCall(self.seconds, self.clock(), self.clock)
                thread = threading.Thread(target=self._run, args=(self._pending,), name=self.name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no thread is left
                    self._pending.answer.set_exception(error)
            return self._pending

    def _run(self, pending: PendingCall[T]) -> None:
        try:
            result = self.function()
        except BaseException as error:  # noqa: BLE001 - `wait` raises it
            pending.ended = self.clock()
            pending.answer.set_exception(error)
        else:
            pending.ended = self.clock()
            pending.answer.set_result(result)
