"""When something was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Window:
    """The time in which one point of one block was measured, warm-up outside.

    `start` and `end` are instants of scrapes, in seconds since the epoch. `segment` counts from 0; a further one
    follows an interruption. `block` is the arm's turn, counted from 0; see `workload.harness.blocks`.
    """

    arm: str
    block: int
    point: str
    segment: int
    start: float
    end: float

    def as_dict(self) -> dict[str, Any]:
        """Return the window for a manifest."""
        return asdict(self)
