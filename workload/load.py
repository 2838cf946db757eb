"""Sends questions in a closed loop and keeps account of every one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from workload.corpus.hotpotqa import Question

    # Returns None when the question was answered, else the reason why it failed.
    Ask = Callable[[Question, str], Awaitable[str | None]]
    Ended = Callable[[str | None], Awaitable[None]]

MAX_CONCURRENCY = 1024


@dataclass
class Tally:
    """What became of the questions of a load."""

    scheduled: int
    sent: int = 0
    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0

    @property
    def dropped(self) -> int:
        """Questions that were never sent, because the load ended early."""
        return self.scheduled - self.sent

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, checked: sent = ok + failed + cancelled once a load has ended.

        Raises:
            AssertionError: a question was lost or counted twice; that is a bug, never a result.
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
        concurrency: questions in flight at the most.
        tally: filled as questions are sent and end; right also when this raises or is cancelled.
        ended: awaited after each question, before its worker sends the next; it may hold the worker back.

    Raises:
        UsageError: a concurrency that is not possible.
        BaseException: what `ask` or `ended` raised; questions in flight are then cancelled, the rest is dropped.
    """
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise UsageError(f"A concurrency of {concurrency} is not possible.", f"Use 1 to {MAX_CONCURRENCY}.")
    waiting = iter(questions)

    async def work(worker: str) -> None:
        for question in waiting:
            tally.sent += 1
            try:
                reason = await ask(question, worker)
            except BaseException:
                tally.cancelled += 1
                raise
            if reason is None:
                tally.ok += 1
            else:
                tally.failed[reason] += 1
            await ended(reason)

    workers = [asyncio.ensure_future(work(str(number))) for number in range(min(concurrency, len(questions)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
