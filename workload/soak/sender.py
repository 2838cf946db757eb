"""Sends questions for as long as the pace allows, in a closed or an open loop, and accounts for every one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import ENGINE_REASONS
from workload.harness.loops import Tally, counted, main_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.soak.pace import Pace
    from workload.soak.question_stream import QuestionStream, QueuedQuestion

PHASE = "soak"
FINISHED = "finished"


@dataclass
class SoakTally(Tally):
    """How the questions ended: scheduled = sent + dropped + paused, sent = ok + failed + cancelled.

    Attributes:
        paused: arrivals of an open loop during a pause.
        retried: how many of the sent questions were second attempts after a failure of the engine.
    """

    scheduled: int = 0
    paused: int = 0
    retried: int = 0

    @property
    def dropped(self) -> int:
        """Arrivals of an open loop that found too many questions in flight."""
        return self.scheduled - self.sent - self.paused

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, checked as in `Tally`."""
        return {**super().as_dict(), "paused": self.paused, "retried": self.retried}


class Gate(Protocol):
    """Delays a worker after a failure that may be the engine's."""

    async def check(self, reason: str | None) -> None:
        """Return once the engine is known to answer."""


@dataclass(kw_only=True)
class Sender:
    """Sends questions until the pace ends.

    Args:
        gate: proves the engine after a suspicious failure.
        pace: how much may be sent.
        segment: returns the number of the current segment.
        salt: the salt of the prefix cache; each lap has its own unless `repeats`.
        rate: arrivals per second of an open loop; None for a closed loop.
        most: end once all processes of the run together have sent this many questions and no retry is left; None for no
            such end.
        drain_seconds: how long questions in flight may take to end before they are cancelled.
    """

    driver: Driver
    gate: Gate
    stream: QuestionStream
    pace: Pace
    arm: str
    segment: Callable[[], int]
    salt: str
    repeats: bool
    rate: float | None
    most: int | None
    drain_seconds: float
    seed: int
    tally: SoakTally
    _free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._free = list(range(self.pace.wanted))

    async def run(self) -> None:
        """Send until the pace ends, then wait for the questions in flight.

        Raises:
            Hop2RagError: the engine, the store or the disk failed; the questions in flight are cancelled.
        """
        tasks: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.TaskGroup() as group:

                def send(intended: float | None = None) -> None:
                    item, slot = self.stream.take(), heappop(self._free)
                    self.tally.scheduled += 1
                    self.pace.enter()
                    task = group.create_task(self._serve(item, slot, intended))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)

                self._end_if_done()
                await (self._open(send, self.rate) if self.rate else self._closed(send))
                if not await self.pace.drained(self.drain_seconds):
                    for task in tasks:
                        task.cancel()
        except BaseExceptionGroup as failures:
            raise main_failure(failures.exceptions) from failures

    def _is_any_left(self) -> bool:
        return not (self.most and self.stream.has_given(self.most))

    def _end_if_done(self) -> None:
        """End once all are sent and none is in flight: one that fails with the engine is sent once more."""
        if not self._is_any_left() and self.pace.in_flight == 0:
            self.pace.end(FINISHED)

    async def _closed(self, send: Callable[[], None]) -> None:
        while await self.pace.room(self._is_any_left):
            send()

    async def _open(self, send: Callable[[float], None], rate: float) -> None:
        clock, random = self.driver.meter.recorder.clock, Random(f"{self.seed}:{self.segment()}")
        due = clock()
        while True:
            due += random.expovariate(rate * self.pace.level / self.pace.wanted)
            if await self.pace.ends_within(due - clock()):
                return
            if not self._is_any_left():
                continue  # until those in flight have ended: one of them may need its retry
            if self.pace.pauses:
                self.tally.scheduled += 1
                self.tally.paused += 1
            elif self.pace.in_flight >= self.pace.level:
                self.tally.scheduled += 1
            else:
                send(due)

    async def _serve(self, item: QueuedQuestion, slot: int, intended: float | None) -> None:
        salt = self.salt if self.repeats else f"{self.salt}-{item.lap}"
        before = {item.question.id: item.attempt - 1}
        phase = Phase(arm=self.arm, block=item.lap, name=PHASE, segment=self.segment(), salt=salt, sent_before=before)
        self.tally.retried += item.is_retry
        try:
            reason = await counted(self.driver.ask(phase, item.question, str(slot), intended), self.tally)
            await self.driver.meter.acknowledge()
            await self.gate.check(reason)
            if reason in ENGINE_REASONS:
                self.stream.retry(item)  # only now, so that its one retry does not meet an engine that is still down
        finally:
            heappush(self._free, slot)
            self.pace.leave()
            self._end_if_done()
