"""Reads the questions of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.agent.instruments import QUESTION_TYPES
from workload.corpus.layouts import read_question
from workload.corpus.question_file import read_rows
from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from workload.corpus.hotpotqa import Question


def load(path: Path) -> tuple[Question, ...]:
    """Read a file of questions in one of the layouts that `workload.corpus.layouts` knows.

    A supporting fact may name a sentence that its paragraph does not have: the published files have some of these.

    Raises:
        UsageError: the file cannot be read, is empty, or has a malformed row; the message names the row and the field.
    """
    questions: list[Question] = []
    places: dict[str, str] = {}
    for place, value in read_rows(path):
        question = read_question(path, place, value)
        if (first := places.setdefault(question.id, place)) != place:
            expected = f"an id of its own; {first} has the same"
            raise UsageError(f"{path}: {place}, field _id: expected {expected}.", "Correct the file.")
        questions.append(question)
    return tuple(questions)


def mapped_types(questions: Iterable[Question]) -> tuple[str, ...]:
    """Return the types that count as "other" in `hop2rag_hops`, whose label has a closed set of values."""
    return tuple(sorted({question.type for question in questions} - set(QUESTION_TYPES)))
