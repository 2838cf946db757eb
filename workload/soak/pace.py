"""How much may be sent now: the level that alerts halve, and the holds that stop everything until they are lifted."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENGINE, HEARTBEAT, DISK = "engine", "heartbeat", "disk"
"""The names of the holds that are no alert's."""


class Ending(NamedTuple):
    """Why a run ends, in words that follow its name in the report, and the exit code that says so."""

    why: str
    exit_code: int


class Pace:
    """Shared by what sends and by what steers, in one event loop.

    Args:
        wanted: questions in flight that were asked for.
        monotonic: seconds.

    Attributes:
        wanted: as above.
        level: questions in flight that are allowed now: those wanted, halved once for each reduction in force.
        in_flight: questions that are under way.
        ending: why the run ends, and the exit code; None while it goes on.
    """

    def __init__(self, wanted: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.wanted = self.level = wanted
        self.in_flight = 0
        self.ending: Ending | None = None
        self._monotonic = monotonic
        self._halvings = 0
        self._held_since: dict[str, float] = {}
        self._changed = asyncio.Event()

    @property
    def holds(self) -> set[str]:
        """Why nothing is sent, by name; empty while the run goes on."""
        return set(self._held_since)

    @property
    def held_seconds(self) -> Mapping[str, float]:
        """How long each hold has lasted."""
        now = self._monotonic()
        return {name: now - since for name, since in self._held_since.items()}

    def halve(self) -> int:
        """Allow half as many questions in flight, at least one, and return the new level."""
        return self._reduce(self._halvings + 1)

    def restore(self) -> int:
        """Undo one halving and return the new level; the others stay in force."""
        self._wake()
        return self._reduce(max(0, self._halvings - 1))

    def hold(self, name: str) -> None:
        """Send nothing until this hold, and every other one, is lifted."""
        self._held_since.setdefault(name, self._monotonic())

    def lift(self, name: str) -> None:
        """Lift one hold; nothing changes if it is not held."""
        self._held_since.pop(name, None)
        self._wake()

    def end(self, why: str, exit_code: int = 0) -> None:
        """Send nothing any more; the first reason stays."""
        self.ending = self.ending or Ending(why, exit_code)
        self._wake()

    def enter(self) -> None:
        """Count a question as under way."""
        self.in_flight += 1

    def leave(self) -> None:
        """Count a question as ended."""
        self.in_flight -= 1
        self._wake()

    async def room(self, is_any_owed: Callable[[], bool] = lambda: True) -> bool:
        """Return True once a question may be sent and one is owed, False once the run ends."""
        while not self.ending and (self._held_since or self.in_flight >= self.level or not is_any_owed()):
            await self._change()
        return not self.ending

    async def ends_within(self, seconds: float) -> bool:
        """Wait so many seconds; return True at once when the run ends before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                while not self.ending:
                    await self._change()
        return self.ending is not None

    async def drained(self, seconds: float) -> bool:
        """Return True once nothing is under way, False after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.in_flight:
                    await self._change()
        return self.in_flight == 0

    def _reduce(self, halvings: int) -> int:
        self._halvings = halvings
        self.level = max(1, self.wanted >> halvings)
        return self.level

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
