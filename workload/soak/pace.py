"""How much may be sent now: the level that alerts halve, and the pauses that stop everything until each is over.

A run that reached its end is judged by what it measured.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from workload.analysis.wording import percent
from workload.errors import DependencyDownError, StoppedByAlertError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENGINE, HEARTBEAT, DISK = "engine", "heartbeat", "disk"
"""The names of the pauses that no alert causes."""

MOST_PAUSED_SHARE = LEAST_RECORDED_SHARE = 0.5
LEAST_ANSWERED_SHARE = 0.5
"""A question has at most two attempts, so below this share some questions were never answered."""


class Ending(NamedTuple):
    """Why a run ends, in words that follow its name in the report, and its exit code."""

    why: str
    exit_code: int


class Pace:
    """Limits the sending. The sender and the steering share it, in one event loop.

    Args:
        wanted: the requested number of questions in flight.

    Attributes:
        level: how many questions may be in flight now: `wanted`, halved once for each reduction in force.
        ending: why the run ends, and the exit code; None while it continues.
    """

    def __init__(self, wanted: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.wanted = self.level = wanted
        self.in_flight = 0
        self.ending: Ending | None = None
        self._monotonic = monotonic
        self._halvings = 0
        self._paused_since: dict[str, float] = {}
        self._changed = asyncio.Event()

    @property
    def pauses(self) -> set[str]:
        """The names of the pauses in force; empty while the run sends."""
        return set(self._paused_since)

    @property
    def paused_seconds(self) -> Mapping[str, float]:
        """How long each pause has lasted."""
        now = self._monotonic()
        return {name: now - since for name, since in self._paused_since.items()}

    def halve(self) -> int:
        """Allow half as many questions in flight, at least one, and return the new level."""
        return self._reduce(self._halvings + 1)

    def restore(self) -> int:
        """Undo one halving and return the new level; the others stay in force."""
        self._wake()
        return self._reduce(max(0, self._halvings - 1))

    def pause(self, name: str) -> None:
        """Send nothing until this pause and every other one is over."""
        self._paused_since.setdefault(name, self._monotonic())

    def resume(self, name: str) -> None:
        """End one pause, if it is in force."""
        self._paused_since.pop(name, None)
        self._wake()

    def end(self, why: str, exit_code: int = 0) -> None:
        """Send nothing more; the first reason stays."""
        self.ending = self.ending or Ending(why, exit_code)
        self._wake()

    def enter(self) -> None:
        """Count a question as in flight."""
        self.in_flight += 1

    def leave(self) -> None:
        """Count a question as ended."""
        self.in_flight -= 1
        self._wake()

    async def room(self, is_any_left: Callable[[], bool] = lambda: True) -> bool:
        """Return True once a question may be sent and one is left, False once the run ends."""
        while not self.ending and (self._paused_since or self.in_flight >= self.level or not is_any_left()):
            await self._change()
        return not self.ending

    async def ends_within(self, seconds: float) -> bool:
        """Return True as soon as the run ends, False after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                while not self.ending:
                    await self._change()
        return self.ending is not None

    async def drained(self, seconds: float) -> bool:
        """Return True once no question is in flight, False after so many seconds."""
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


def judge(
    ending: Ending, paused_share: float | None, recorded_share: float | None, answered_share: float | None
) -> Ending:
    """Return the ending, with an exit code if most of the run was paused, not recorded or not answered.

    Args:
        ending: how the run ended; one with an exit code is returned unchanged.
        paused_share: the share of its time in which it was paused; None if that was not recorded.
        recorded_share: the share of its time that Prometheus recorded; None if that is not known.
        answered_share: the share of its ended attempts that were answered; None if no attempt ended.
    """
    if ending.exit_code:
        return ending
    if paused_share is not None and paused_share > MOST_PAUSED_SHARE:
        why = f"{ending.why}, but paused for {percent(paused_share)} of its time"
        return Ending(why, StoppedByAlertError.exit_code)
    if recorded_share is not None and recorded_share < LEAST_RECORDED_SHARE:
        why = f"{ending.why}, but Prometheus recorded only {percent(recorded_share)} of its time"
        return Ending(why, DependencyDownError.exit_code)
    if answered_share is None:
        return Ending(f"{ending.why}, but no question ended", DependencyDownError.exit_code)
    if answered_share < LEAST_ANSWERED_SHARE:
        why = f"{ending.why}, but only {percent(answered_share)} of the questions were answered"
        return Ending(why, DependencyDownError.exit_code)
    return ending
