"""Draft queries: guesses at a hop's query before it is written, and when each was first known.

Prefetch is speculative, so the share of drafts that find the documents finally retrieved must be measured: after the
load, the agent's own embedding and search repeat the drafts and the final queries of a run recorded with texts, one at
a time. During the load this would take CPU time from what is measured.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import ValidationError

from workload.agent.prompts import Clues, Decision, Decomposition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from workload.record.evidence import Text
    from workload.record.results import Row

Source = Literal["question", "last clue", "missing fact", "half the query"]
SOURCES: tuple[Source, ...] = get_args(Source)
QUESTION = re.compile(r"^Question: (.+)$", re.MULTILINE)

Place = tuple[int, int]
"""Row id of a question, and hop."""


@dataclass(frozen=True)
class Need:
    """The retrieval of one hop: when its first stage began, the seconds of embedding and search, and its query.

    `query` is None in a run recorded without texts.
    """

    place: Place
    needed_at: float
    seconds: float
    query: str | None


@dataclass(frozen=True)
class DraftQuery:
    """A guess at the query of a hop, known from the instant `at` on; `query` is None without texts.

    With texts, a reply without a guess, such as an empty list of clues, gives no draft.
    """

    source: Source
    place: Place
    at: float
    query: str | None


def needs_of(questions: Iterable[Row], stages: Iterable[Row]) -> list[Need]:
    """Return the retrievals of the answered questions, in order."""
    spans: dict[Place, list[tuple[float, float]]] = {}
    for row in stages:
        if row["stage"] in {"embed", "search"}:  # reranking needs the final query, so no draft saves it
            spans.setdefault((row["question"], row["hop"]), []).append((row["started_at"], row["duration_seconds"]))
    found = []
    for question in (row for row in questions if row["outcome"] == "ok"):
        queries = json.loads(question["trajectory"])["queries"] if question["trajectory"] else ()
        for hop in sorted(hop for row_id, hop in spans if row_id == question["id"]):
            parts = spans[question["id"], hop]
            query = queries[hop - 1] if hop <= len(queries) else None
            found.append(
                Need((question["id"], hop), min(start for start, _ in parts), sum(each for _, each in parts), query)
            )
    return found


def drafts_of(calls: Sequence[Row], texts: Mapping[int, Text]) -> list[DraftQuery]:
    """Return the drafts of every source, from the successful calls and their texts if recorded.

    The question is a draft for the first hop; a clue or a missing fact of one hop for the next; half of the query that
    `decompose` writes for the same hop, its instant interpolated between the first token and the last.
    """
    last: dict[tuple[str, Place], Row] = {}  # a call may be repeated for its JSON: the last one counts
    for row in sorted(calls, key=lambda row: row["started_at"]):
        if row["outcome"] == "ok":
            last[row["node"], (row["question"], row["hop"])] = row
    found = []
    for (node, (question, hop)), row in last.items():
        start, end = row["started_at"], row["started_at"] + row["duration_seconds"]
        text = texts.get(row["id"])
        if node == "extract_clues":
            found.append(DraftQuery("last clue", (question, hop + 1), end, _said(text, _last_clue)))
        elif node == "decide":
            found.append(DraftQuery("missing fact", (question, hop + 1), end, _said(text, _missing)))
        elif node == "decompose":
            first_token = start + (row["ttft_seconds"] or row["duration_seconds"])
            found.append(DraftQuery("half the query", (question, hop), (first_token + end) / 2, _said(text, _half)))
            if hop == 1:
                found.append(DraftQuery("question", (question, hop), start, _said(text, _question)))
    return [draft for draft in found if draft.query or not texts]


def _said(text: Text | None, read: Callable[[Text], str]) -> str | None:
    return read(text) if text else None


def _question(text: Text) -> str:
    """Return the question in the first prompt; in every layout it has a line of its own."""
    found = QUESTION.search("\n".join(message["content"] for message in text.messages))
    return found[1] if found else ""


def _last_clue(text: Text) -> str:
    try:
        clues = Clues.model_validate_json(text.reply).clues
    except ValidationError:
        return ""
    return clues[-1] if clues else ""


def _missing(text: Text) -> str:
    try:
        return Decision.model_validate_json(text.reply).missing
    except ValidationError:
        return ""


def _half(text: Text) -> str:
    try:
        words = Decomposition.model_validate_json(text.reply).query.split()
    except ValidationError:
        return ""
    return " ".join(words[: len(words) // 2])
