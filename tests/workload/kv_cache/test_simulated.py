"""A simulation is worth something only if its prompts are the agent's own and its replies say no more than they may."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from workload.agent.prompts import LAYOUTS, MAX_CLUE_CHARS, MAX_QUERY_CHARS, Clues, Decision, Decomposition
from workload.agent.replay import Recorded
from workload.corpus.hotpotqa import Paragraph, Question
from workload.errors import UsageError
from workload.kv_cache.reader import PerfectReader, clip
from workload.kv_cache.recorded import read_calls
from workload.kv_cache.reuse_bounds import reusable_by_call
from workload.kv_cache.simulated import from_record
from workload.record.journal import read

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tests.workload.kv_cache.conftest import Simulation
    from workload.engine.message import Message

SCHEMAS: dict[str, type[BaseModel]] = {"decompose": Decomposition, "extract_clues": Clues, "decide": Decision}
GOLD = Question(
    id="q",
    question="Where was the founder of Aba born?",
    answer="Cele",
    type="bridge",
    level="medium",
    supporting_facts=(("Aba", 0), ("Aba", 1), ("Ben", 0), ("Ben", 9), ("Gone", 0)),
    context=(Paragraph("Aba", ("Aba was founded by Ben. ", "It is old.")), Paragraph("Ben", ('Ben "B" is of Cele.',))),
)
READER = PerfectReader.of(GOLD)


def said(*contents: str) -> list[Message]:
    """Return a prompt of one message."""
    return [{"role": "user", "content": "\n\n".join(contents)}]


def test_layouts_say_the_same_in_another_order(simulation: Simulation) -> None:
    """Layouts are compared by their tokens; were one to retrieve or to reply otherwise, the work would differ."""
    first, *others = (
        [(sent.call.question, *sent.call.cell, sent.call.output) for sent in simulation.arms[layout]]
        for layout in LAYOUTS
    )
    assert others == [first, first]
    original = simulation.arms["original"]
    for layout in LAYOUTS[1:]:
        for ours, theirs in zip(original, simulation.arms[layout], strict=True):
            text = "\n".join(message["content"] for message in theirs.messages)
            passages = [line for line in ours.messages[0]["content"].splitlines() if line.startswith("[")]
            assert all(line in text for line in passages)


def test_every_reply_follows_its_schema(simulation: Simulation) -> None:
    """A reply that the agent had to ask for again would add calls that no model made."""
    calls = read(simulation.journal, "llm_call")
    texts = {row["call"]: row["reply"] for row in read(simulation.journal, "call_text")}
    assert len(calls) == len(texts) > 60
    for call in calls:
        if schema := SCHEMAS.get(call["node"]):
            schema.model_validate_json(texts[call["id"]])


def test_the_loop_is_the_agents(simulation: Simulation) -> None:
    """Hops come from what was retrieved: a question needs as many as it takes to find its passages, at most three."""
    rows = [row for row in read(simulation.journal, "question") if row["arm"] == "original"]
    assert {row["outcome"] for row in rows} == {"ok"}
    assert len({row["hops"] for row in rows}) > 1
    for row in rows:
        is_answered = row["termination"] == "enough"
        assert row["answer_em"] == is_answered
        assert is_answered or row["hops"] == 3


def test_the_journal_holds_the_same_bound(simulation: Simulation) -> None:
    """The bound worked out live, in the order of sending, and the one from the finished list are one method."""
    for layout, recorded in read_calls(simulation.journal).items():
        simulated = simulation.arms[layout]
        assert [list(sent.call.prompt) for sent in recorded] == [sent.call.prompt for sent in simulated]
        assert [sent.reusable_tokens for sent in recorded] == reusable_by_call(simulated, 16)
        assert all(sent.span is None for sent in recorded)


def test_clues_come_only_from_passages_at_hand() -> None:
    """A clue of a passage that was not retrieved would make the bound that of another, easier task."""
    reply = READER.reply("extract_clues", 1, said("Passages:\n[Aba] Aba was founded by Ben. It is old."))
    assert json.loads(reply)["clues"] == ["Aba was founded by Ben.", "It is old."]
    assert json.loads(READER.reply("extract_clues", 1, said("Passages:\n[Abacus] Not Aba.")))["clues"] == []


def test_a_clue_of_each_passage_comes_before_a_second_of_any() -> None:
    """A hop has room for three clues; two of one passage must not crowd out the other passage."""
    assert [title for title, _ in READER.clues] == ["Aba", "Ben", "Aba"]


def test_facts_that_name_no_sentence_are_left_out() -> None:
    """Published files contain some; waiting for a sentence that does not exist would spend every hop."""
    assert ("Gone", "") not in READER.clues
    assert len(READER.clues) == 3


@pytest.mark.parametrize(
    "noted",
    ['- Aba was founded by Ben.\n- Ben "B" is of Cele.', '{"clues": ["It is old.", "Ben \\"B\\" is of Cele."]}'],
    ids=["as a list", "as an earlier reply"],
)
def test_the_answer_waits_for_a_clue_of_each_passage(noted: str) -> None:
    """It ends the loop when all gold passages were seen, however the layout repeats the clues."""
    assert json.loads(READER.reply("decide", 1, said(noted))) == {"missing": "", "enough": "yes"}
    assert READER.reply("generate", 1, said(noted)) == "Cele"


def test_without_all_clues_it_goes_on_with_the_missing_title() -> None:
    """The next query comes from what is missing; the first from the question, which is all that is known then."""
    half = said("- It is old.", "[Ben] Ben")
    assert json.loads(READER.reply("decide", 1, half))["enough"] == "no"
    assert json.loads(READER.reply("decompose", 2, half))["query"] == "Ben"
    assert json.loads(READER.reply("decompose", 1, said("")))["query"] == GOLD.question
    assert READER.reply("generate", 3, half) == "unknown"


def test_texts_are_cut_at_a_word() -> None:
    """Replies beyond the schema's limits would be refused by the agent."""
    long = "word " * 60
    assert len(clip(long, MAX_CLUE_CHARS)) <= MAX_CLUE_CHARS
    assert set(clip(long, MAX_QUERY_CHARS).split()) == {"word"}
    assert clip("x" * 200, 10) == "x" * 10


def test_a_record_is_replayed_call_by_call() -> None:
    """Every layout must hear the same replies; one that is heard at another node is another trajectory."""
    speak = from_record({"q": (Recorded("decompose", "first", 3), Recorded("generate", "second", 3))})
    question = cast("Any", SimpleNamespace(question_id="q", calls=[]))
    assert speak(question, "decompose", 1, []) == "first"
    question.calls.append({})
    with pytest.raises(UsageError, match="no decide at hop 1"):
        speak(question, "decide", 1, [])
    assert speak(question, "generate", 1, []) == "second"
    question.calls.append({})
    with pytest.raises(UsageError, match="--max-hops"):
        speak(question, "decompose", 2, [])
