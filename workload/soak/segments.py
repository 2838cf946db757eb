"""The stretches of a soak: each is summarised when it ends, so that a long run is read piece by piece."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.services.own_thread import in_own_thread

if TYPE_CHECKING:
    from workload.record.journal import Journal
    from workload.soak.record import SoakRecord
    from workload.soak.sending import SoakTally


@dataclass
class Segments:
    """Opens and closes segments in the journal.

    Args:
        journal: where they are written.
        record: where their questions are read again.
        tally: the process's account, of which each segment keeps its own part of what was never sent.
        number: the current segment.
    """

    journal: Journal
    record: SoakRecord
    tally: SoakTally
    number: int

    def open(self, at: float) -> None:
        """Begin the current segment at an instant (seconds since the epoch)."""
        ids = self.journal.last_ids
        self._before = (self.tally.dropped, self.tally.paused)
        self._first = {"first_question": ids["question"] + 1, "first_call": ids["llm_call"] + 1}
        row = {"id": self.number, "started_at": at, **self._first, "dropped": 0, "paused": 0}
        self.journal.insert("segment", row)

    def keep(self) -> None:
        """Write down what was not sent in the segment so far."""
        self.journal.update("segment", self.number, self._unsent())

    async def roll(self, at: float, *, opens: bool = True) -> dict[str, Any] | None:
        """End the current segment and, unless this is the end, begin the next; return the summary.

        Questions under way belong to the segment in which they were sent; its summary counts them as in flight, or
        is None where the journal cannot be read now: the report sums the segment up again.
        """
        number, unsent = self.number, self._unsent()
        self.journal.update("segment", number, {"ended_at": at, **unsent})
        if opens:
            self.number += 1
            self.open(at)
        await self.journal.acknowledge()
        try:
            stretch = self.record.stretch_of(number)
            summary = {**await in_own_thread(self.record.summary, stretch), **unsent}
        except UsageError:
            return None
        self.journal.update("segment", number, {"summary": json.dumps(summary)})
        return summary

    def close_dangling(self, number: int, at: float) -> None:
        """End the segment in which an earlier process died, at the instant at which it was last heard of."""
        summary = self.record.summary(self.record.stretch_of(number))
        self.journal.update("segment", number, {"ended_at": at, "summary": json.dumps(summary)})

    def _unsent(self) -> dict[str, int]:
        dropped, paused = self._before
        return {"dropped": self.tally.dropped - dropped, "paused": self.tally.paused - paused}
