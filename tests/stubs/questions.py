"""Questions of a few words, without passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.corpus.hotpotqa import Question

if TYPE_CHECKING:
    from collections.abc import Iterable


def question_of(number: int, text: str = "?", prefix: str = "") -> Question:
    """Return a question whose id is the prefix and its number."""
    return Question(
        id=f"{prefix}{number}",
        question=text,
        answer="Nobody knows",
        type="bridge",
        level="easy",
        supporting_facts=(),
        context=(),
    )


def plain_questions(number: int) -> list[Question]:
    """Return questions that differ only by their ids."""
    return [question_of(index) for index in range(number)]


def questions_about(subjects: Iterable[object]) -> list[Question]:
    """Return a question per subject; the subject is its first word."""
    return [question_of(index, f"{subject} was founded when?", "q") for index, subject in enumerate(subjects)]
