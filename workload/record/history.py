"""The work of earlier processes of a run, so that a resumed run asks each question exactly once."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.record import journal
from workload.record.results import ENDED, Measured

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


Place = tuple[str, int, str]
"""Arm, block and phase."""


@dataclass(frozen=True)
class History:
    """The work that is on disk.

    Attributes:
        acknowledged: the question ids that ended, answered or failed, by place.
        interrupted: how often each question was sent and not answered, by place.
        segments: the number of segments that were begun, by place.
    """

    measured: tuple[Measured, ...]
    acknowledged: Mapping[Place, frozenset[str]]
    interrupted: Mapping[Place, Mapping[str, int]]
    segments: Mapping[Place, int]

    def in_words(self) -> str:
        """Return, in words, the questions that ended and those that were in flight, which are asked again."""
        ended = sum(map(len, self.acknowledged.values()))
        cut = sum(sum(counts.values()) for counts in self.interrupted.values())
        return f"{ended} questions have ended; {cut} were in flight when it stopped, and are asked again"


NOTHING = History((), {}, {}, {})


def read_history(path: Path, measured: tuple[Measured, ...]) -> History:
    """Return the history in a journal. Cancelled questions, and those without an outcome, count as interrupted.

    Raises:
        UsageError: there is no journal.
    """
    acknowledged: dict[Place, set[str]] = defaultdict(set)
    interrupted: dict[Place, Counter[str]] = defaultdict(Counter)
    segments: dict[Place, int] = defaultdict(int)
    for row in journal.read(path, "question"):
        place = (row["arm"], row["block"], row["phase"])
        segments[place] = max(segments[place], row["segment"] + 1)
        if row["outcome"] in ENDED:
            acknowledged[place].add(row["question_id"])
        else:
            interrupted[place][row["question_id"]] += 1
    return History(measured, {place: frozenset(ids) for place, ids in acknowledged.items()}, interrupted, segments)
