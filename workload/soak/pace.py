"""How much may be sent now: the level that alerts halve, and the holds that stop everything until they are lifted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple


class Ending(NamedTuple):
    """Why a run ends, in words that follow its name in the report, and the exit code that says so."""

    why: str
    exit_code: int


class Pace:
    """Shared by what sends and by what steers, in one event loop.

    Attributes:
        wanted: questions in flight that were asked for.
        level: questions in flight that are allowed now.
        in_flight: questions that are under way.
        holds: why nothing is sent, by name; empty while the run goes on.
        ending: why the run ends, and the exit code; None while it goes on.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = self.level = wanted
        self.in_flight = 0
        self.holds: set[str] = set()
        self.ending: Ending | None = None
        self._changed = asyncio.Event()

    def halve(self) -> int:
        """Allow half as many questions in flight, at least one, and return the new level."""
        self.level = max(1, self.level // 2)
        return self.level

    def restore(self) -> int:
        """Undo one halving and return the new level."""
        self.level = min(self.wanted, self.level * 2)
        self._wake()
        return self.level

    def hold(self, name: str) -> None:
        """Send nothing until this hold, and every other one, is lifted."""
        self.holds.add(name)

    def lift(self, name: str) -> None:
        """Lift one hold; nothing changes if it is not held."""
        self.holds.discard(name)
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

    async def room(self) -> bool:
        """Return True once a question may be sent, False once the run ends."""
        while not self.ending and (self.holds or self.in_flight >= self.level):
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

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
