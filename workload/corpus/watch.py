"""Notices that somebody writes to the store while it is searched: what is found then is not what was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Mark:
    """Tells two states of a collection apart.

    Attributes:
        documents: how many it holds.
        writes: the number of its latest write, which an update raises too; None where that is not told.
    """

    documents: int
    writes: int | None

    def __str__(self) -> str:
        return f"{self.documents} documents" + (f" after write {self.writes}" if self.writes is not None else "")


class Marked(Protocol):
    """A store that tells its state."""

    def mark(self) -> Mark | None:
        """Return the state of the collection, None where it cannot be told now; blocking."""


class StoreWatch:
    """Compares a store with what it was at the last look; the first look is now."""

    def __init__(self, store: Marked) -> None:
        self._store = store
        self._last = store.mark()

    def change(self) -> str | None:
        """Return how the store has changed since the last look, None where it has not or does not tell; blocking."""
        before, now = self._last, self._store.mark()
        self._last = now or before
        return f"{before}, then {now}" if before and now and before != now else None
