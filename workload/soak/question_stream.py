"""An endless stream of questions: lap after lap through the corpus, each in its own seeded order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workload.corpus.chance import Chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.corpus.hotpotqa import Question


@dataclass(frozen=True)
class QueuedQuestion:
    """One question to send, with its lap through the corpus and its attempt number in that lap.

    `is_retry` marks the one retry of a question that failed with the engine in this process.
    """

    question: Question
    lap: int
    attempt: int = 1
    is_retry: bool = False


class QuestionStream:
    """Gives questions one by one; in memory is one lap's order, however long the run.

    Args:
        lap, index: the position to resume from.
        again: questions in flight when the run was interrupted; they come first.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        seed: int,
        lap: int = 0,
        index: int = 0,
        again: Iterable[QueuedQuestion] = (),
    ) -> None:
        self._questions = questions
        self._seed = seed
        self._lap, self._index = lap, index
        self._again = deque(again)
        self._order = self._draw()

    @property
    def position(self) -> tuple[int, int]:
        """The lap, and how many of its questions were given."""
        return self._lap, self._index

    def has_given(self, number: int) -> bool:
        """Return whether this many questions were given, over all laps, and none waits for a retry."""
        return not self._again and self._lap * len(self._questions) + self._index >= number

    def take(self) -> QueuedQuestion:
        """Return the next question; retries come first."""
        if self._again:
            return self._again.popleft()
        if self._index >= len(self._order):  # the end of a lap, or of a corpus that has shrunk
            self._lap, self._index = self._lap + 1, 0
            self._order = self._draw()
        self._index += 1
        return QueuedQuestion(self._order[self._index - 1], self._lap)

    def retry(self, item: QueuedQuestion) -> bool:
        """Queue the retry of a question that failed with the engine; return False if this was the retry."""
        if item.is_retry:
            return False
        self._again.append(replace(item, attempt=item.attempt + 1, is_retry=True))
        return True

    def _draw(self) -> list[Question]:
        return Chance(f"{self._seed}:{self._lap}").sample(self._questions, len(self._questions))
