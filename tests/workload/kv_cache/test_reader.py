"""What is said of gold passages is what was seen of them: an answer may be right for another reason."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.workload.kv_cache.test_simulated import GOLD, said
from workload.kv_cache.reader import PerfectReader, gold_in_words, gold_passages
from workload.kv_cache.source import SentCall
from workload.theory.structure import AgentCall

WHOLE = replace(GOLD, supporting_facts=(("Aba", 0), ("Ben", 0)))


def shown(*passages: str, question: str = "q") -> SentCall:
    """Return a call of `extract_clues` that was shown these passages."""
    text = "Passages:\n" + "\n".join(f"[{title}] of {title}" for title in passages)
    return SentCall(AgentCall(question, "extract_clues", 1, (1,), (2,)), tuple(said(text)))


@pytest.mark.parametrize(
    ("hops", "every", "none"),
    [
        ([("Aba", "Ben")], 1, 0),
        ([("Aba",), ("Ben", "Coe")], 1, 0),
        ([("Aba",)], 0, 0),
        ([("Abacus", "Benn")], 0, 1),  # another passage whose title begins alike
        ([], 0, 1),
    ],
)
def test_every_gold_passage_was_found_where_each_was_shown(hops: list[tuple[str, ...]], every: int, none: int) -> None:
    """Over all hops of the question; a title that only begins alike is another passage."""
    found = gold_passages([WHOLE], [shown(*passages) for passages in hops])
    assert found == {"questions": 1, "found_all": every, "found_none": none, "unreadable": 0}


def test_row_26_what_the_file_does_not_hold_is_not_found_and_is_said() -> None:
    """Its loop may end without that passage: then the load is shorter than the question's, and a reader must know."""
    found = gold_passages([GOLD, replace(WHOLE, id="r")], [shown("Aba", "Ben"), shown("Aba", "Ben", question="r")])
    assert found == {"questions": 2, "found_all": 1, "found_none": 0, "unreadable": 1}
    words = " ".join(gold_in_words(found))
    assert "all gold passages of 1 of 2 questions" in words
    assert "1 questions have a gold passage of which their file has no sentence" in words


@pytest.mark.parametrize("context", [(), replace(GOLD).context], ids=["no passages", "other passages"])
def test_a_question_without_a_readable_gold_sentence_does_not_end_at_once(context: tuple[()]) -> None:
    """With nothing to wait for, the reader said "enough" after one hop: a load of one call where there were three."""
    blind = PerfectReader.of(replace(GOLD, supporting_facts=(("Gone", 0), ("Aba", 9)), context=context))
    assert blind.clues == ()
    assert json.loads(blind.reply("decide", 1, said("[Gone] gone")))["enough"] == "no"
    assert json.loads(blind.reply("decompose", 2, said("")))["query"] == "Gone"
    assert blind.reply("generate", 3, said("")) == "unknown"
