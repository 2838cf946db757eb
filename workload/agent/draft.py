"""A draft of the next query, retrieved for while the model still writes the actual query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio

    from workload.agent.metering import QuestionMeter
    from workload.corpus.document import Document


@dataclass(eq=False)
class Draft:
    """A retrieval in progress for a guessed query."""

    query: str
    hop: int
    started: float
    work: asyncio.Task[tuple[list[Document], float]]
    is_settled: bool = False

    async def claim(self, query: str, meter: QuestionMeter) -> list[Document] | None:
        """Return the documents if the draft is right, else None; either way it is settled.

        Raises:
            Hop2RagError: the draft is right, and its retrieval failed as the actual one would have.
        """
        if not same_query(query, self.query):
            self.drop(meter, "wrong")
            return None
        needed = meter.recorder.clock()
        try:
            documents, ended = await self.work
        finally:
            self.is_settled = True
        meter.prefetched(self.hop, "used", self.started, ended - self.started, max(0.0, ended - needed))
        return documents

    def drop(self, meter: QuestionMeter, outcome: Literal["wrong", "unneeded"]) -> None:
        """Give the draft up; the time until now, or until it had ended, is wasted."""
        if self.is_settled:
            return
        self.is_settled = True
        is_whole = self.work.done() and not self.work.cancelled() and self.work.exception() is None
        ended = self.work.result()[1] if is_whole else meter.recorder.clock()
        self.work.cancel()
        meter.prefetched(self.hop, outcome, self.started, ended - self.started, 0.0)


def same_query(one: str, other: str) -> bool:
    """Return whether two queries are the same text, apart from white space: then any store finds the same documents."""
    return one.split() == other.split()
