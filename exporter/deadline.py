"""Questions that may hang, each asked in a thread of its own: what has not answered by its deadline holds up nobody."""

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
class Asked(Generic[T]):
    """A question under way, or answered. Times are of the clock that it was asked under."""

    seconds: float
    started: float
    clock: Callable[[], float]
    answer: Future[T] = field(default_factory=Future)
    ended: float | None = None

    @property
    def age(self) -> float:
        """Seconds from the question to its answer, or to now."""
        return (self.clock() if self.ended is None else self.ended) - self.started

    def wait(self) -> T:
        """Return the answer, at once where the deadline has passed already.

        Raises:
            TimeoutError: there is none by the deadline.
            Exception: whatever the question raised.
        """
        return self.answer.result(max(0.0, self.seconds - self.age))


class Deadline(Generic[T]):
    """Asks one question again and again, but never while it still waits for an answer: one thread hangs at the most.

    Args:
        ask: the question; it may take for ever, and raise anything.
        seconds: how long anybody waits for it.
        name: of its thread.
        clock: seconds, monotonic.
    """

    def __init__(
        self, ask: Callable[[], T], seconds: float, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: Asked[T] | None = None

    def begin(self) -> Asked[T]:
        """Ask, or return the question that is under way."""
        with self._lock:
            if self._asked is None or self._asked.answer.done():
                self._asked = Asked(self._seconds, self._clock(), self._clock)
                thread = threading.Thread(target=self._run, args=(self._asked,), name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no thread is left
                    self._asked.answer.set_exception(error)
            return self._asked

    def _run(self, asked: Asked[T]) -> None:
        try:
            told = self._ask()
        except BaseException as error:  # noqa: BLE001 - it is raised for whoever waits
            asked.ended = self._clock()
            asked.answer.set_exception(error)
        else:
            asked.ended = self._clock()
            asked.answer.set_result(told)
