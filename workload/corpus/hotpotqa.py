"""HotpotQA questions in their official JSON format (Yang et al., EMNLP 2018): load, write, draw."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from workload.corpus.chance import Chance
from workload.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ID_HEX_DIGITS = 32


@dataclass(frozen=True)
class Paragraph:
    """A titled passage, split into sentences because supporting facts name sentences."""

    title: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences as one text, whatever white space the file puts around them."""
        return " ".join(stripped for sentence in self.sentences if (stripped := sentence.strip()))

    @property
    def id(self) -> str:
        """A stable id of the content: the start of the SHA-256 of title and sentences."""
        content = json.dumps([self.title, self.sentences], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:ID_HEX_DIGITS]


@dataclass(frozen=True)
class Question:
    """A question, its gold answer, the sentences that prove it, and the paragraphs it comes with."""

    id: str
    question: str
    answer: str
    type: str
    level: str
    supporting_facts: tuple[tuple[str, int], ...]
    context: tuple[Paragraph, ...]


def load(path: Path) -> tuple[Question, ...]:
    """Read a file of the official format: a JSON list of objects with `_id`, `question`, `answer` and the rest.

    A supporting fact may name a sentence that its paragraph does not have: the published files hold some of these.

    Raises:
        UsageError: the file is missing, not UTF-8 JSON, empty, or an entry is malformed (index, field, expectation).
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"The question file {str(path)!r} cannot be read: {reason}.", "Give a HotpotQA file: UTF-8 JSON."
        ) from error
    if not isinstance(entries, list) or not entries:
        found = "an empty list" if entries == [] else type(entries).__name__
        raise UsageError(f"The question file {path} holds {found}.", "Expected a JSON list of question objects.")
    questions = tuple(_question(_Entry(path, index, entry)) for index, entry in enumerate(entries))
    seen: dict[str, int] = {}
    for index, question in enumerate(questions):
        if (first := seen.setdefault(question.id, index)) != index:
            raise _Entry(path, index, entries[index]).refusal("_id", f"an id of its own; entry {first} has the same")
    return questions


class _Entry:
    """One entry of the file, with its place in it so that a refusal can name the place."""

    def __init__(self, path: Path, index: int, value: Any) -> None:
        self.path, self.index = path, index
        if not isinstance(value, dict):
            raise self.refusal("(the entry)", "an object")
        self.value: dict[str, Any] = value

    def refusal(self, field: str, expected: str) -> UsageError:
        return UsageError(f"{self.path}: entry {self.index}, field {field}: expected {expected}.", "Correct the file.")

    def text(self, field: str) -> str:
        value = self.value.get(field)
        if not _is_text(value) or not value.strip():
            raise self.refusal(field, "a text that is not empty")
        return value

    def pairs(self, field: str, second: type, expected: str) -> list[tuple[str, Any]]:
        value = self.value.get(field)
        if not isinstance(value, list) or not value:
            raise self.refusal(field, f"a list that is not empty, of {expected}")
        for place, pair in enumerate(value):
            # bool is a kind of int in Python, and `true` is not a sentence number
            if not (isinstance(pair, list) and len(pair) == 2 and _is_text(pair[0]) and type(pair[1]) is second):
                raise self.refusal(f"{field}[{place}]", expected)
        return [(title, item) for title, item in value]


def _is_text(value: Any) -> TypeGuard[str]:
    """A JSON escape can spell half a surrogate pair, which no file, prompt or database can hold."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _question(entry: _Entry) -> Question:
    facts = entry.pairs("supporting_facts", int, "[title, sentence number]")
    if any(number < 0 for _, number in facts):
        raise entry.refusal("supporting_facts", "sentence numbers from 0")
    context = entry.pairs("context", list, "[title, [sentences]]")
    for place, (_, sentences) in enumerate(context):
        if not all(_is_text(sentence) for sentence in sentences):
            raise entry.refusal(f"context[{place}]", "[title, [sentences]]")
    return Question(
        id=entry.text("_id"),
        question=entry.text("question"),
        answer=entry.text("answer"),
        type=entry.text("type"),
        level=entry.text("level"),
        supporting_facts=tuple(facts),
        context=tuple(Paragraph(title, tuple(sentences)) for title, sentences in context),
    )


def dump(questions: Iterable[Question], path: Path) -> None:
    """Write the official format, one question a line, so that the same questions give the same bytes.

    Raises:
        StorageError: the folder is missing, full or not writable; an earlier file of that name is left as it was.
    """
    lines = ",\n".join(_line(question) for question in questions)
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(f"[\n{lines}\n]\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StorageError(f"Cannot write {path}: {error.strerror}.", "Free space or pick another path.") from error


def _line(question: Question) -> str:
    entry = {
        "_id": question.id,
        "question": question.question,
        "answer": question.answer,
        "type": question.type,
        "level": question.level,
        "supporting_facts": question.supporting_facts,
        "context": [(paragraph.title, paragraph.sentences) for paragraph in question.context],
    }
    return json.dumps(entry, ensure_ascii=False)


def unique_paragraphs(questions: Iterable[Question]) -> tuple[Paragraph, ...]:
    """Return every paragraph of the questions' contexts once (by content), in the order first seen."""
    return tuple(dict.fromkeys(paragraph for question in questions for paragraph in question.context))


def draw(questions: Sequence[Question], count: int, seed: int) -> tuple[Question, ...]:
    """Return `count` questions drawn evenly without replacement: the same ones for the same file, count and seed.

    Raises:
        UsageError: `count` is below 1 or above what there is.
    """
    if not 1 <= count <= len(questions):
        raise UsageError(
            f"Cannot draw {count} questions.", f"The corpus holds {len(questions)}: ask for 1 to that many."
        )
    return tuple(Chance(seed).sample(questions, count))
