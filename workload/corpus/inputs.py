"""The inputs of any app: a file of JSON objects, `{"id", "input": {...}, "answer"?, "type"?}`, one per line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workload.corpus.default import Corpus, CorpusSource
from workload.corpus.hotpotqa import Question
from workload.corpus.question_file import digest
from workload.errors import UsageError
from workload.files.enclosed import text_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from workload.corpus.document import Document

FORMAT = 'Write {"id": "q1", "input": {...}} on each line, and "answer" and "type" where they are known.'
MAX_BYTES = 2**30
NOT_OURS = "the app's own"


class InputRow(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=256)
    input: dict[str, Any]
    answer: str | None = None
    type: str = "other"


class NoStore:
    """In place of our document store: an app searches where it likes."""

    def mark(self) -> None:
        """Return no state that could change."""

    def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:  # noqa: ARG002 - there is nothing to find
        """Refuse: nothing of ours searches for another app."""
        raise UsageError("This app's documents are its own.", "Leave out what needs our document store.")


def read_inputs(path: Path) -> Corpus:
    """Return the rows as questions, without a store.

    Raises:
        UsageError: the file is missing or empty, a row is unreadable, or two have one id; the message names the line.
    """
    questions: dict[str, Question] = {}
    for number, line in enumerate(text_of(path, MAX_BYTES).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = InputRow.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise UsageError(f"{path}, line {number}: {place}: {first['msg'].lower()}.", FORMAT) from error
        if row.id in questions:
            raise UsageError(f"{path}, line {number}: the id {row.id!r} is there twice.", "Give each row its own id.")
        questions[row.id] = Question(
            id=row.id,
            question="",
            answer=row.answer,
            type=row.type,
            level="",
            supporting_facts=(),
            context=(),
            input=row.input,
        )
    if not questions:
        raise UsageError(f"{path} has no rows.", FORMAT)
    source = CorpusSource(
        questions=str(path),
        sha256=digest(path),
        rows=len(questions),
        without_answer=sum(question.answer is None for question in questions.values()),
        other_types=(),
        store=NOT_OURS,
        collection=NOT_OURS,
        passages=0,
    )
    return Corpus(NoStore(), tuple(questions.values()), source)
