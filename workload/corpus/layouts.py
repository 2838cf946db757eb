"""Reads a published question file, each row by its shape: HotpotQA and 2WikiMultihopQA, or MuSiQue.

HotpotQA (Yang et al., EMNLP 2018) and 2WikiMultihopQA (Ho et al., COLING 2020) have pairs, `[title, [sentences]]`;
Hugging Face has the same by columns, `{"title": [...], "sentences": [[...]]}`. MuSiQue (Trivedi et al., TACL 2022) has
paragraphs without sentences: here each is one sentence, so that its supporting facts are its supporting paragraphs.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeGuard

from exporter.agent.instruments import QUESTION_TYPES
from workload.corpus.hotpotqa import Paragraph, Question
from workload.corpus.question_file import read_rows
from workload.corpus.scoring import one_form
from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


OTHER = "other"
ANSWERS = ("answer", "golden_answers", "answers")
"""Names of the answer's field, which has a text or a list of right answers."""

ALIASES = "answer_aliases"

MUSIQUE_TYPE = re.compile(r"(\d+hop)\d*__")


class Row:
    """One row, with its place in the file for error messages."""

    def __init__(self, path: Path, place: str, value: Any) -> None:
        self.path, self.place = path, place
        if not isinstance(value, dict):
            raise self.refusal("(the entry)", "an object")
        more = value.get("metadata")
        self.value: dict[str, Any] = {**more, **value} if isinstance(more, dict) else value

    def refusal(self, field: str, expected: str) -> UsageError:
        """Return the error for a field."""
        return UsageError(f"{self.path}: {self.place}, field {field}: expected {expected}.", "Correct the file.")

    def text(self, field: str, default: str | None = None) -> str:
        """Return a text; if the row has none, return `default` if it is given."""
        value = self.value.get(field)
        if value is None and default is not None:
            return default
        if not is_text(value) or not value.strip():
            raise self.refusal(field, "a non-empty text")
        return value

    @property
    def id(self) -> str:
        """The question's id."""
        value = self.value.get("_id")
        value = self.value.get("id") if value is None else value
        if type(value) is int:
            return str(value)
        if not is_text(value) or not value.strip():
            raise self.refusal("_id", "a non-empty text, here or as id")
        return value

    def answers(self) -> tuple[str, ...]:
        """Return the gold answer, then its aliases; empty if the row has no answer."""
        found: list[str] = []
        for field in (*ANSWERS, ALIASES):
            value = self.value.get(field)
            given = value if isinstance(value, list) else [value]
            if not all(one is None or is_text(one) for one in given):
                raise self.refusal(field, "a text, or a list of texts")
            found += [one for one in given if one and one.strip()]
        return tuple(dict.fromkeys(found))

    def pairs(self, field: str, names: tuple[str, ...], second: type, expected: str) -> list[tuple[str, Any]]:
        """Return a list of pairs from a list, from columns (`title` and one of `names`), or from JSON in a text."""
        value = self.value.get(field)
        if isinstance(value, str):  # some exports of tables write nested values as JSON
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if isinstance(value, dict):
            title, other = value.get("title"), next((value[name] for name in names if name in value), None)
            if not isinstance(title, list) or not isinstance(other, list) or len(title) != len(other):
                raise self.refusal(field, f"columns title and {names[0]} of one length")
            value = [list(pair) for pair in zip(title, other, strict=True)]
        if not isinstance(value, list) or not value:
            raise self.refusal(field, f"a non-empty list of {expected}")
        for number, pair in enumerate(value):
            # a bool is an int in Python, but `true` is not a sentence number
            if not (isinstance(pair, list) and len(pair) == 2 and is_text(pair[0]) and type(pair[1]) is second):
                raise self.refusal(f"{field}[{number}]", expected)
        return [(title, item) for title, item in value]


def is_text(value: Any) -> TypeGuard[str]:
    """Return whether a value is a valid text: a JSON escape may encode half a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _hotpotqa(row: Row) -> Question:
    context = row.pairs("context", ("sentences", "content"), list, "[title, [sentences]]")
    for number, (_, sentences) in enumerate(context):
        if not all(is_text(sentence) for sentence in sentences):
            raise row.refusal(f"context[{number}]", "[title, [sentences]]")
    answers = row.answers()
    titles = {one_form(title): title for title, _ in context}
    facts = [(titles.get(one_form(title), title), number) for title, number in _facts(row, is_blind=not answers)]
    return Question(
        id=row.id,
        question=row.text("question"),
        answer=answers[0] if answers else None,
        type=row.text("type", OTHER),
        level=row.text("level", ""),
        supporting_facts=tuple(facts),
        context=tuple(Paragraph(title, tuple(sentences)) for title, sentences in context),
        aliases=answers[1:],
    )


def _facts(row: Row, *, is_blind: bool) -> list[tuple[str, int]]:
    """Return the supporting facts. A row may lack them, and a row without an answer may have empty ones."""
    given = row.value.get("supporting_facts")
    columns = given.values() if isinstance(given, dict) else [given]
    if given is None or (is_blind and not any(columns)):
        return []
    facts = row.pairs("supporting_facts", ("sent_id", "sent_idx"), int, "[title, sentence number]")
    if any(number < 0 for _, number in facts):
        raise row.refusal("supporting_facts", "sentence numbers from 0")
    return facts


def _musique(row: Row) -> Question:
    paragraphs = row.value["paragraphs"]
    if not isinstance(paragraphs, list) or not paragraphs:
        raise row.refusal("paragraphs", "a non-empty list of paragraphs")
    for number, paragraph in enumerate(paragraphs):
        if not isinstance(paragraph, dict) or not all(map(is_text, map(paragraph.get, ("title", "paragraph_text")))):
            raise row.refusal(f"paragraphs[{number}]", "an object with title and paragraph_text")
        if not isinstance(paragraph.get("is_supporting", False), bool):
            raise row.refusal(f"paragraphs[{number}].is_supporting", "true or false")
    # An unanswerable question has the id and the answer of its answerable twin, which its paragraphs do not support.
    is_answerable = row.value.get("answerable", True)
    if not isinstance(is_answerable, bool):
        raise row.refusal("answerable", "true or false")
    answers = row.answers() if is_answerable else ()
    # Of paragraphs with the same title the supporting one comes first, because a fact names only the title.
    paragraphs = sorted(paragraphs, key=lambda each: each.get("is_supporting") is not True)
    gold = [(each["title"], 0) for each in paragraphs if each.get("is_supporting") is True] if answers else []
    kind = MUSIQUE_TYPE.match(row.id)
    return Question(
        id=row.id if is_answerable else f"{row.id}__unanswerable",
        question=row.text("question"),
        answer=answers[0] if answers else None,
        type=row.text("type", kind[1] if kind else OTHER),
        level=row.text("level", ""),
        supporting_facts=tuple(dict.fromkeys(gold)),
        context=tuple(Paragraph(each["title"], (each["paragraph_text"],)) for each in paragraphs),
        aliases=answers[1:],
    )


def load(path: Path) -> tuple[Question, ...]:
    """Read a file of questions in one of the layouts that `workload.corpus.layouts` knows.

    Without an answer (a blind test set, an unanswerable question) `answer` is None, and the question is not scored. A
    supporting fact may name a sentence that its paragraph does not have: the published files have some of these.

    Raises:
        UsageError: the file cannot be read, is empty, or has a malformed row; the message names the row and the field.
    """
    questions: list[Question] = []
    places: dict[str, str] = {}
    for place, value in read_rows(path):
        row = Row(path, place, value)
        question = _musique(row) if "paragraphs" in row.value else _hotpotqa(row)
        if (first := places.setdefault(question.id, place)) != place:
            expected = f"an id of its own; {first} has the same"
            raise UsageError(f"{path}: {place}, field _id: expected {expected}.", "Correct the file.")
        questions.append(question)
    return tuple(questions)


def mapped_types(questions: Iterable[Question]) -> tuple[str, ...]:
    """Return the types that count as "other" in `hop2rag_hops`, whose label has a closed set of values."""
    return tuple(sorted({question.type for question in questions} - set(QUESTION_TYPES)))
