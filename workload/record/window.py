"""A measured window: its place in the run, and its time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Window:
    """The time in which one point of one block was measured, without the warm-up.

    `start` and `end` are scrape times, in seconds since the epoch. `segment` counts from 0; each interruption begins
    another one. `block` counts the run's blocks from 0, see `workload.harness.runner`.
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
