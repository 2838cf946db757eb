"""Sends questions in a closed or an open loop, and counts each of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeVar

from workload.errors import StorageError, UsageError
from workload.settings import MAX_CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from workload.corpus.hotpotqa import Question

    # Returns the failure reason, or None on success.
    Ask = Callable[[Question, str], Awaitable[str | None]]
    AskAt = Callable[[Question, str, float], Awaitable[str | None]]
    Ended = Callable[[str | None], Awaitable[None]]

FailureT = TypeVar("FailureT", bound=BaseException)


@dataclass
class Tally:
    """How the questions of a load ended."""

    scheduled: int
    sent: int = 0
    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0

    @property
    def dropped(self) -> int:
        """Questions that were never sent: the load ended early, or an open loop had too many in flight."""
        return self.scheduled - self.sent

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, checked: sent = ok + failed + cancelled once a load has ended.

        Raises:
            AssertionError: a question was lost or counted twice; that is a bug.
        """
        if self.sent != self.ok + self.failed.total() + self.cancelled:
            raise AssertionError(f"accounting does not add up: {self}")
        return {
            "scheduled": self.scheduled,
            "sent": self.sent,
            "dropped": self.dropped,
            "ok": self.ok,
            "failed": dict(self.failed),
            "cancelled": self.cancelled,
        }


async def closed_loop(ask: Ask, questions: Sequence[Question], concurrency: int, tally: Tally, ended: Ended) -> None:
    """Ask all questions with `concurrency` workers, each sending its next question when the one before has ended.

    Args:
        ask: answers one question for one worker.
        questions: asked once each, in this order.
        concurrency: most questions in flight.
        tally: updated as questions are sent and end; right also if this raises or is cancelled.
        ended: awaited after each question, before its worker sends the next; it may delay the worker.

    Raises:
        UsageError: the concurrency is out of range.
        BaseException: what `ask` or `ended` raised; questions in flight are then cancelled, and the rest is dropped.
    """
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise UsageError(f"A concurrency of {concurrency} is not allowed.", f"Use 1 to {MAX_CONCURRENCY}.")
    waiting = iter(questions)

    async def work(worker: str) -> None:
        for question in waiting:
            await ended(await counted(ask(question, worker), tally))

    workers = [asyncio.ensure_future(work(str(number))) for number in range(min(concurrency, len(questions)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def open_loop(
    ask: AskAt,
    questions: Sequence[Question],
    arrivals: Sequence[float],
    *,
    in_flight: int,
    tally: Tally,
    ended: Ended,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Send each question at its arrival time, whether or not earlier ones have ended.

    The queue of a slow system therefore grows, as it would under users who do not wait for one another. A question that
    arrives while `in_flight` others are unanswered is dropped: it stays scheduled and is never sent.

    Args:
        ask: answers one question for one worker; the third argument is its arrival time on `clock`, from which its
            latency counts.
        questions: asked once each, in this order.
        arrivals: their arrival times in seconds from now, ascending.
        in_flight: most questions in flight.
        tally: updated as questions are sent and end; right also if this raises or is cancelled.
        ended: awaited after each question; while it waits after a failure, nothing is sent.
        clock: seconds, monotonic.

    Raises:
        BaseException: what `ask` or `ended` raised; questions in flight are then cancelled, and the rest is dropped.
    """
    free = list(range(in_flight))
    gate = asyncio.Lock()
    start = clock()

    async def serve(question: Question, worker: int, intended: float) -> None:
        try:
            reason = await counted(ask(question, str(worker), intended), tally)
            if reason is not None:
                async with gate:
                    await ended(reason)
            else:
                await ended(None)
        finally:
            heappush(free, worker)

    try:
        async with asyncio.TaskGroup() as group:
            for question, seconds in zip(questions, arrivals, strict=False):
                await asyncio.sleep(max(0.0, start + seconds - clock()))
                async with gate:
                    if free:
                        group.create_task(serve(question, heappop(free), start + seconds))
    except BaseExceptionGroup as failures:
        raise main_failure(failures.exceptions) from failures


def main_failure(failures: Sequence[FailureT]) -> FailureT:
    """Return the failure to report, one of the disk before others; it names the others in its notes."""
    main = next((each for each in failures if isinstance(each, StorageError)), failures[0])
    for other in failures:
        if other is not main:
            main.add_note(f"Failed at the same time: {type(other).__name__}: {other}")
    return main


async def counted(answer: Awaitable[str | None], tally: Tally) -> str | None:
    """Await an answer and count in `tally` that it was sent and how it ended. Returns its failure reason, if any."""
    tally.sent += 1
    try:
        reason = await answer
    except BaseException:
        tally.cancelled += 1
        raise
    if reason is None:
        tally.ok += 1
    else:
        tally.failed[reason] += 1
    return reason
