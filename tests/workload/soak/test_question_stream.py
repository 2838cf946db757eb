"""Questions without end: seeded, each once a lap, and the same from wherever the run goes on."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.questions import questions_about
from workload.soak.question_stream import QuestionStream, QueuedQuestion

if TYPE_CHECKING:
    from collections.abc import Iterator


def taken(stream: QuestionStream) -> Iterator[QueuedQuestion]:
    """Yield items for ever."""
    while True:
        yield stream.take()


@given(st.integers(1, 9), st.integers(0, 3), st.integers(0, 30), st.integers(1, 30))
def test_going_on_is_the_same_as_never_having_stopped(corpus: int, seed: int, before: int, after: int) -> None:
    """A resumed soak must ask what an uninterrupted one would have asked."""
    whole = list(islice(taken(QuestionStream(questions_about(range(corpus)), seed)), before + after))
    first = QuestionStream(questions_about(range(corpus)), seed)
    list(islice(taken(first), before))
    rest = list(islice(taken(QuestionStream(questions_about(range(corpus)), seed, *first.position)), after))
    assert rest == whole[before:]


def test_each_lap_has_every_question_once_in_an_order_of_its_own() -> None:
    """A fixed order would let each question find the same neighbours in the cache, lap after lap."""
    items = list(islice(taken(QuestionStream(questions_about(range(20)), 1)), 60))
    laps = [[item.question.id for item in items if item.lap == lap] for lap in range(3)]
    assert all(len(set(lap)) == 20 for lap in laps)
    assert laps[0] != laps[1] != laps[2]


def test_a_question_is_tried_again_once() -> None:
    """A question that kills the engine each time must not be asked for ever."""
    stream = QuestionStream(questions_about(range(3)), 0)
    item = stream.take()
    assert stream.retry(item)
    again = stream.take()
    assert (again.question, again.lap, again.attempt) == (item.question, item.lap, 2)
    assert not stream.retry(again)
    assert stream.take().question != item.question


def test_what_was_in_flight_comes_first() -> None:
    """The interrupted questions are asked before anything new, and leave the stream where it was."""
    interrupted = QueuedQuestion(questions_about(range(3))[2], 0, 2)
    stream = QuestionStream(questions_about(range(3)), 0, 0, 1, [interrupted])
    assert stream.take() is interrupted
    assert stream.position == (0, 1)
