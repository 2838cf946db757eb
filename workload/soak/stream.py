"""Questions without end: the corpus again and again, each lap in an order of its own, the same for the same seed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workload.corpus.chance import Chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.corpus.hotpotqa import Question


@dataclass(frozen=True)
class Item:
    """A question to be asked: in which lap through the corpus, and for the how many-eth time in it.

    `is_retry` tells that it failed with the engine in this process and gets no further chance.
    """

    question: Question
    lap: int
    attempt: int = 1
    is_retry: bool = False


class QuestionStream:
    """Takes questions one by one; holds one lap's order, whatever the length of the run.

    Args:
        questions: the corpus.
        seed: of every lap's order.
        lap, index: where to go on.
        again: questions that were in flight when the run was interrupted; asked first.
    """

    def __init__(
        self, questions: Sequence[Question], seed: int, lap: int = 0, index: int = 0, again: Iterable[Item] = ()
    ) -> None:
        self._questions = questions
        self._seed = seed
        self._lap, self._index = lap, index
        self._again = deque(again)
        self._order = self._draw()

    @property
    def position(self) -> tuple[int, int]:
        """The lap, and how many of its questions were taken."""
        return self._lap, self._index

    def has_given(self, number: int) -> bool:
        """Return whether so many questions were taken, over all laps, and none of them is owed once more."""
        return not self._again and self._lap * len(self._questions) + self._index >= number

    def take(self) -> Item:
        """Return the next question; those given back come first."""
        if self._again:
            return self._again.popleft()
        if self._index >= len(self._order):  # of a smaller corpus than it was begun with
            self._lap, self._index = self._lap + 1, 0
            self._order = self._draw()
        self._index += 1
        return Item(self._order[self._index - 1], self._lap)

    def retry(self, item: Item) -> bool:
        """Queue a question that failed with the engine for one more attempt; return False if it had its chance."""
        if item.is_retry:
            return False
        self._again.append(replace(item, attempt=item.attempt + 1, is_retry=True))
        return True

    def _draw(self) -> list[Question]:
        return Chance(f"{self._seed}:{self._lap}").sample(self._questions, len(self._questions))
