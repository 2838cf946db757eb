"""What a budget leaves of the passages: never more than it allows, in order, and nothing made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.agent import document
from workload.agent.context import EVERYTHING, Context
from workload.agent.prompts import messages

if TYPE_CHECKING:
    from workload.agent.state import Hop2RagState
    from workload.corpus.document import Document
    from workload.settings import Selection

CUTTING: tuple[Selection, ...] = ("truncate", "importance", "progressive")
FOUND = [document(number) for number in range(5)]


def words(text: str) -> int:
    """Count words, in place of a tokenizer."""
    return len(text.split())


def state_of(hop: int = 1, query: str = "Senna Dole", **parts: Any) -> Hop2RagState:
    """Return a state with five passages."""
    start = {"question": "Where?", "hop": hop, "query": query, "evidence": FOUND, "fresh": FOUND[3:]}
    return cast("Hop2RagState", {**start, "clues": [], "log": [], **parts})


def shown(documents: list[Document]) -> str:
    """Return the passages' part of a prompt."""
    state = state_of(fresh=documents)
    return messages("original", "extract_clues", state)[0]["content"].split("Passages:\n")[1].split("\n\n")[0]


@given(st.sampled_from(CUTTING), st.integers(0, 200), st.integers(1, 3))
def test_a_budget_is_kept_and_nothing_is_made_up(selection: Selection, budget: int, hop: int) -> None:
    """The option promises a budget; a sentence that is in no passage would be another corpus."""
    context = Context(selection, budget, 3, words)
    kept = context.fitting(FOUND, state_of(hop))
    allowed = -(-budget * hop // 3) if selection == "progressive" else budget
    assert words(shown(kept)) <= max(allowed, 1)
    by_title = {found.title: found for found in FOUND}
    for found in kept:
        assert all(sentence.strip() in by_title[found.title].text for sentence in found.text.split("\n"))
    titles = [found.title for found in kept]
    assert titles == [found.title for found in FOUND if found.title in titles]


@pytest.mark.parametrize("selection", CUTTING)
def test_a_large_budget_changes_nothing(selection: Selection) -> None:
    """An arm whose budget never binds is the arm `all`, to the character."""
    assert Context(selection, 10_000, 1, words).fitting(FOUND, state_of()) == FOUND


def test_importance_keeps_what_the_query_is_about() -> None:
    """With room for one sentence, truncation keeps the first and importance the best match."""
    budget = words("[Title 3] Senna Dole was founded in 1903.")
    (first,) = Context("truncate", budget, 1, words).fitting(FOUND, state_of())
    (best,) = Context("importance", budget, 1, words).fitting(FOUND, state_of())
    assert (first.title, best.title) == ("Title 0", "Title 3")
    assert best.text == "Senna Dole was founded in 1903."


def test_progressive_context_grows_with_the_hops() -> None:
    """A question that ends after one hop has paid for a third; the last hop has the whole budget."""
    context = Context("progressive", 60, 3, words)
    sizes = [words(shown(context.fitting(FOUND, state_of(hop)))) for hop in (1, 2, 3)]
    assert sizes[0] < sizes[1] < sizes[2] <= 60


def test_the_evidence_itself_is_not_cut() -> None:
    """Supporting facts and the check for known texts need all of it; only the prompt is limited."""
    state = state_of()
    limited = Context("truncate", 12, 1, words).limited(state)
    assert len(limited["evidence"]) < len(state["evidence"]) == 5
    assert EVERYTHING.limited(state) is state
