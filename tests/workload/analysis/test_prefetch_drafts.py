"""A draft must be what was known at its instant, and nothing that was written later."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workload.agent.prompts import LAYOUTS, messages
from workload.analysis.prefetch_drafts import SOURCES, DraftQuery, drafts_of, needs_of
from workload.record.evidence import Text


def call(number: int, node: str, hop: int = 1, start: float = 0.0, outcome: str = "ok") -> dict[str, Any]:
    """Return a call of question 1 that takes 2 s, with its first token after 1 s."""
    place = {"id": number, "question": 1, "node": node, "hop": hop, "outcome": outcome}
    return {**place, "started_at": start, "duration_seconds": 2.0, "ttft_seconds": 1.0}


def said(reply: str) -> Text:
    """Return the text of a call."""
    return Text([{"role": "user", "content": "Question: Who?\n\nClues:"}], reply)


def by_source(calls: list[dict[str, Any]], texts: dict[int, Text]) -> dict[str, DraftQuery]:
    """Return the drafts by their source."""
    return {draft.source: draft for draft in drafts_of(calls, texts)}


def test_each_draft_is_for_the_right_hop_from_the_right_instant() -> None:
    """A clue of hop 1 is a guess at the query of hop 2; taken for its own hop it would save what was long done."""
    calls = [call(1, "decompose"), call(2, "extract_clues", start=10), call(3, "decide", start=20)]
    found = by_source(calls, {})
    assert set(found) == set(SOURCES)
    assert (found["question"].place, found["question"].at) == ((1, 1), 0.0)
    assert (found["half the query"].place, found["half the query"].at) == ((1, 1), 1.5)
    assert (found["last clue"].place, found["last clue"].at) == ((1, 2), 12.0)
    assert (found["missing fact"].place, found["missing fact"].at) == ((1, 2), 22.0)
    assert all(draft.query is None for draft in found.values())


def test_the_texts_are_read_as_the_agent_reads_them() -> None:
    """The last clue, the missing fact, and the first half of the query's words."""
    replies = {
        1: '{"query": "mayor of Varn in 1920"}',
        2: '{"clues": ["a", "b"]}',
        3: '{"missing": "the mayor", "enough": "no"}',
    }
    calls = [call(1, "decompose"), call(2, "extract_clues"), call(3, "decide")]
    found = by_source(calls, {number: said(reply) for number, reply in replies.items()})
    assert {source: draft.query for source, draft in found.items()} == {
        "question": "Who?",
        "half the query": "mayor of",
        "last clue": "b",
        "missing fact": "the mayor",
    }


@pytest.mark.parametrize("reply", ['{"clues": []}', "no JSON", '{"query": "one"}', '{"missing": "", "enough": "yes"}'])
def test_a_reply_without_a_draft_gives_none(reply: str) -> None:
    """An empty text finds some documents all the same, and would be counted as a draft that was never made."""
    for node in ("extract_clues", "decide"):
        assert drafts_of([call(1, node)], {1: said(reply)}) == []
    assert "half the query" not in by_source([call(1, "decompose")], {1: said(reply)})


def test_of_a_repaired_call_the_last_reply_counts() -> None:
    """The first was no JSON; its end is not the instant at which the clue was known."""
    calls = [call(1, "extract_clues", start=0), call(2, "extract_clues", start=5), call(3, "decide", outcome="failed")]
    found = by_source(calls, {1: said("oops"), 2: said('{"clues": ["a"]}')})
    assert (found["last clue"].query, found["last clue"].at) == ("a", 7.0)
    assert set(found) == {"last clue"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_question_is_found_in_every_layout(layout: Any) -> None:
    """It is read from the prompt; a layout that says it elsewhere would lose this source without a word."""
    state: Any = {"question": "Who wrote: it?", "clues": [], "missing": "", "queries": [], "log": [], "fresh": []}
    text = Text(messages(layout, "decompose", state), '{"query": "x"}')
    assert by_source([call(1, "decompose")], {1: text})["question"].query == "Who wrote: it?"


def test_a_need_is_the_time_of_embedding_and_search_alone() -> None:
    """Reranking reads the final query, so no draft can save it."""
    question = {"id": 1, "outcome": "ok", "trajectory": json.dumps({"queries": ["first", "second"], "clues": []})}
    stages = [
        {"question": 1, "hop": hop, "stage": stage, "started_at": 10.0 * hop + at, "duration_seconds": seconds}
        for hop in (1, 2)
        for stage, at, seconds in (("embed", 0.0, 0.5), ("search", 0.5, 0.25), ("rerank", 0.75, 3.0))
    ]
    first, second = needs_of([question], stages)
    assert (first.place, first.needed_at, first.seconds, first.query) == ((1, 1), 10.0, 0.75, "first")
    assert second.query == "second"
    assert needs_of([{**question, "trajectory": None}], stages)[0].query is None
    assert needs_of([{**question, "outcome": "failed"}], stages) == []
