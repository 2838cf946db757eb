"""An agent that does to each question what was decided before: for the tests of the loops that send questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence  # noqa: TC003 - the fields of a dataclass
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from workload.corpus.hotpotqa import Question


@dataclass
class FatedAgent:
    """Ends question n as `fates[n]` says, after `steps[n % len(steps)]` steps of the event loop.

    "ok", "wait" (for `released`) and "block" (the event loop for 0.1 s) answer; "raise" raises; "hang" never ends; any
    other fate is the reason of a failure.

    Attributes:
        asked: the ids of the questions in the order in which they were sent.
        workers: the worker of each, likewise.
        intended: the instant at which each was to be sent, in seconds of `time.perf_counter`; None in a closed loop.
        sent: the instant at which each was sent, likewise.
    """

    fates: Sequence[str]
    steps: Sequence[int] = (1,)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    intended: list[float | None] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def ask(self, question: Question, worker: str, intended: float | None = None) -> str | None:
        """Ask a question; return the reason if it failed."""
        self.asked.append(question.id)
        self.workers.append(worker)
        self.intended.append(intended)
        self.sent.append(time.perf_counter())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            number = int(question.id)
            for _ in range(self.steps[number % len(self.steps)]):
                await asyncio.sleep(0)
            fate = self.fates[number]
            if fate == "wait":
                await self.released.wait()
            if fate == "hang":
                await asyncio.Event().wait()
            if fate == "raise":
                raise DependencyDownError("Chroma is gone.")
            if fate == "block":
                time.sleep(0.1)  # noqa: ASYNC251 - a client that is busy is the point
            return None if fate in {"ok", "wait", "block"} else fate
        finally:
            self.in_flight -= 1

    async def ended(self, reason: str | None) -> None:
        """Give up on the failure "gate", as a health gate does."""
        await asyncio.sleep(0)
        if reason == "gate":
            raise DependencyDownError("vLLM is gone.")
