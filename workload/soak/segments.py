"""The segments of a soak: each is summarised when it ends, so that a long run is read piece by piece."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.services.own_thread import in_own_thread

if TYPE_CHECKING:
    from workload.record.journal import Journal
    from workload.soak.record import SoakRecord
    from workload.soak.sender import SoakTally


@dataclass
class Segments:
    """Opens and closes segments in the journal.

    Args:
        record: reads their questions back.
        tally: counts the process's questions; each segment records its own share of those never sent.
    """

    journal: Journal
    record: SoakRecord
    tally: SoakTally
    number: int
    _before: tuple[int, int] = field(init=False, default=(0, 0))

    def open(self, at: float) -> None:
        """Begin the current segment at an instant (seconds since the epoch)."""
        ids = self.journal.last_ids
        self._before = (self.tally.dropped, self.tally.paused)
        first = {"first_question": ids["question"] + 1, "first_call": ids["llm_call"] + 1}
        self.journal.insert("segment", {"id": self.number, "started_at": at, **first, "dropped": 0, "paused": 0})

    def keep(self) -> None:
        """Journal the number of questions not sent in the segment so far."""
        self.journal.update("segment", self.number, self._unsent())

    async def roll(self, at: float, *, opens: bool = True) -> dict[str, Any] | None:
        """End the current segment, open the next if `opens`, and return the summary of the one that ended.

        A question belongs to the segment in which it was sent; the summary counts it as in flight until it ends.
        Returns None if the journal cannot be read now; the report then summarises the segment.
        """
        number, unsent = self.number, self._unsent()
        self.journal.update("segment", number, {"ended_at": at, **unsent})
        if opens:
            self.number += 1
            self.open(at)
        await self.journal.acknowledge()
        try:
            within = self.record.range_of(number)
            summary = {**await in_own_thread(self.record.summary, within), **unsent}
        except UsageError:
            return None
        self.journal.update("segment", number, {"summary": json.dumps(summary)})
        return summary

    def close_dangling(self, number: int, at: float) -> None:
        """End the segment in which an earlier process died, at the last instant that it recorded."""
        summary = self.record.summary(self.record.range_of(number))
        self.journal.update("segment", number, {"ended_at": at, "summary": json.dumps(summary)})

    def _unsent(self) -> dict[str, int]:
        dropped, paused = self._before
        return {"dropped": self.tally.dropped - dropped, "paused": self.tally.paused - paused}
