"""Questions as in HotpotQA (Yang et al., EMNLP 2018), from any file: written and drawn."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.corpus.chance import Chance
from workload.errors import StorageError, UsageError
from workload.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

ID_HEX_DIGITS = 32


@dataclass(frozen=True)
class Paragraph:
    """A titled passage, split into sentences because supporting facts name sentences."""

    title: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences as one text, with white space normalised."""
        return " ".join(stripped for sentence in self.sentences if (stripped := sentence.strip()))

    @property
    def id(self) -> str:
        """A stable id of the content: the start of the SHA-256 of title and sentences."""
        content = json.dumps([self.title, self.sentences], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:ID_HEX_DIGITS]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, its gold answer, the sentences that support it, and its paragraphs.

    `answer` is None, and `supporting_facts` is empty, if the file has none; then they are not scored. Each of the
    `aliases` is as right as the answer. `input` is what the app gets; None gives it the question.
    """

    id: str
    question: str
    answer: str | None
    type: str
    level: str
    supporting_facts: tuple[tuple[str, int], ...]
    context: tuple[Paragraph, ...]
    aliases: tuple[str, ...] = ()
    input: Mapping[str, Any] | None = None

    @property
    def given(self) -> Mapping[str, Any]:
        """What the app gets, whichever app it is."""
        return {"question": self.question} if self.input is None else self.input

    @property
    def answers(self) -> tuple[str, ...]:
        """All right answers; empty if they are unknown."""
        return () if self.answer is None else (self.answer, *self.aliases)


def dump(questions: Iterable[Question], path: Path) -> None:
    """Write the official format, one question per line; the same questions give the same bytes.

    Raises:
        StorageError: the folder is missing, full or not writable; an earlier file of that name is unchanged.
    """
    lines = ",\n".join(_line(question) for question in questions)
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be written: there is no such folder.", "Pick another path.")
    atomic_file.write(path, f"[\n{lines}\n]\n")


def _line(question: Question) -> str:
    entry = {
        "_id": question.id,
        "question": question.question,
        **({} if question.answer is None else {"answer": question.answer}),
        **({"answer_aliases": question.aliases} if question.aliases else {}),
        "type": question.type,
        **({"level": question.level} if question.level else {}),
        "supporting_facts": question.supporting_facts,
        "context": [(paragraph.title, paragraph.sentences) for paragraph in question.context],
    }
    return json.dumps(entry, ensure_ascii=False)


def unique_paragraphs(questions: Iterable[Question]) -> tuple[Paragraph, ...]:
    """Return each different paragraph of the questions' contexts once, in order of appearance."""
    return tuple(dict.fromkeys(paragraph for question in questions for paragraph in question.context))


def draw(questions: Sequence[Question], count: int, seed: int) -> tuple[Question, ...]:
    """Return `count` questions drawn evenly without replacement: the same ones for the same file, count and seed.

    Raises:
        UsageError: `count` is not between 1 and the number of questions.
    """
    if not 1 <= count <= len(questions):
        raise UsageError(f"Cannot draw {count} questions.", f"The corpus has {len(questions)}: ask for 1 to that many.")
    return tuple(Chance(seed).sample(questions, count))
