"""Detects writes to the store while it is searched: results would no longer come from the checked content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Mark:
    """The state of a collection.

    Attributes:
        documents: their number.
        writes: the number of its latest write, updates included; None if unknown.
    """

    documents: int
    writes: int | None

    def __str__(self) -> str:
        return f"{self.documents} documents" + (f" after write {self.writes}" if self.writes is not None else "")


class Marked(Protocol):
    """A store with a state."""

    def mark(self) -> Mark | None:
        """Return the state of the collection, or None if it is unknown now; blocking."""


class StoreWatch:
    """Compares a store with its state at the last check; the first check is now."""

    def __init__(self, store: Marked) -> None:
        self._store = store
        self._last = store.mark()

    def change(self) -> str | None:
        """Return how the store has changed since the last check; None if it has not, or if unknown; blocking."""
        before, now = self._last, self._store.mark()
        self._last = now or before
        return f"{before}, then {now}" if before and now and before != now else None
