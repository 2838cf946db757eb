"""The memory of questions that run for days, or wait for a person who never comes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exporter.agent import run_tree
from exporter.agent.run_tree import Steps, Waiting, WaitingQuestions

if TYPE_CHECKING:
    import pytest


class Question:
    """A question that notes whether it was abandoned."""

    is_abandoned = False

    def abandon(self) -> None:
        """Note it."""
        self.is_abandoned = True


def waiting(since: float = 0.0) -> Waiting:
    """Return a question that waits."""
    return Waiting(Question(), 1.0, defaultdict(Steps), since)  # type: ignore[arg-type]


def test_a_step_has_one_number_however_often_it_is_tried() -> None:
    """A node that is tried again runs in the same step."""
    steps = Steps()
    assert [steps.hop(step) for step in ("a", "b", "a", "c")] == [1, 2, 1, 3]
    assert steps.number == 3


def test_a_node_that_runs_for_days_is_counted_in_bounded_memory() -> None:
    """A watching agent loops without end."""
    steps = Steps()
    for step in range(5 * run_tree.RECENT_STEPS):
        steps.hop(step)
    assert steps.number == 5 * run_tree.RECENT_STEPS
    assert len(steps._hops) == run_tree.RECENT_STEPS


def test_a_question_that_waits_is_found_once() -> None:
    """A thread that is resumed twice waited once; a new interrupt in the thread replaces an older one."""
    questions, older, newer = WaitingQuestions(), waiting(), waiting()
    assert list(questions.collect()) == []
    questions.put("thread", older)
    questions.put("thread", newer)
    assert older.question.is_abandoned  # type: ignore[attr-defined]
    assert [family.samples[0].value for family in questions.collect()] == [1]
    assert questions.take("thread") is newer
    assert [family.samples[0].value for family in questions.collect()] == [0]
    assert questions.take("thread") is None
    assert not newer.question.is_abandoned  # type: ignore[attr-defined]


def test_the_longest_waiting_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """People leave questions open for ever."""
    monkeypatch.setattr(run_tree, "MAX_WAITING", 10)
    questions = WaitingQuestions()
    for number in range(100):
        questions.put(str(number), waiting(float(number)))
    assert len(questions) == 10
    questions.put("new", waiting(98 + run_tree.WAITING_SECONDS))
    assert len(questions) == 3
