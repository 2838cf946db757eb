"""One engine's messages in order: duplicates are dropped, and what is missing is asked for again or marked as lost.

Each rank of a server numbers its messages from 0. A message is lost where a queue is full or nobody listens. Numbers
that start again mean that the engine was restarted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from workload.fleet.events import Batch, Cleared, EngineId, Lost, MalformedEventsError, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Message(NamedTuple):
    """A message with its number."""

    number: int
    payload: bytes


@dataclass
class EventStream:
    """The messages of one engine.

    Attributes:
        engine: whose events they are.
        due: the number of the next message.
        latest: when the last step ended, by the engine's clock.
    """

    engine: EngineId
    due: int = 0
    latest: float = -inf

    def take(self, message: Message, received: float, replay: Callable[[int], Iterable[Message]]) -> Iterator[Batch]:
        """Yield the batches in a message, and before them those that are missing.

        `replay` returns the messages from a number on that the engine still has.
        """
        batch = self._decode(message, received)
        if message.number < self.due:
            if batch is None or batch.at <= self.latest:
                return  # it was sent again
            yield self._mark(Cleared("restart"), received)
            self.due = 0
        for older in replay(self.due) if message.number > self.due else ():
            if self.due <= older.number < message.number:
                yield from self._next(older.number, self._decode(older, received), received)
        yield from self._next(message.number, batch, received)

    def lose(self, cause: str, received: float) -> Batch:
        """Return the mark after which the engine's cache is unknown."""
        return self._mark(Lost(cause), received)

    def _next(self, number: int, batch: Batch | None, received: float) -> Iterator[Batch]:
        if number > self.due:
            yield self._mark(Lost(f"messages {self.due} to {number - 1} are missing"), received)
        self.due = number + 1
        if batch is None:
            yield self._mark(Lost(f"message {number} is malformed"), received)
        else:
            self.latest = batch.at
            yield batch

    def _decode(self, message: Message, received: float) -> Batch | None:
        try:
            batch = decode(message.payload, self.engine.server, received, self.engine.rank)
        except MalformedEventsError:
            return None
        return batch._replace(engine=self.engine)

    def _mark(self, event: Cleared | Lost, received: float) -> Batch:
        return Batch(self.engine, max(self.latest, 0.0), received, (event,))
