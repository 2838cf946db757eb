"""BM25 on a handful of texts, empty and hostile ones included."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.agent import document
from workload.agent.ranking import rank, supporting_facts


def test_the_best_match_comes_first() -> None:
    """An inverted order would keep the five worst, and only EM would show it."""
    texts = ["a river in the north", "the choir sang of tin", "tin choir, the Tin Choir", "nothing"]
    assert rank("Tin Choir", texts)[:2] == [2, 1]


def test_equal_scores_keep_the_order_of_the_search() -> None:
    """An unstable sort would make the trajectory differ between arms."""
    assert rank("nowhere", ["one river", "two rivers", "three rivers"]) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=6))
def test_any_text_can_be_ranked(query: str, texts: list[str]) -> None:
    """Queries come from a model and texts from anyone: stop words alone, no words, no texts; all are kept in order."""
    assert sorted(rank(query, texts)) == list(range(len(texts)))


def test_supporting_facts_name_one_sentence_of_two_documents() -> None:
    """HotpotQA's questions are about two paragraphs; a third would cost precision on every question."""
    documents = [document(number) for number in range(4)]
    facts = supporting_facts("Orin Tasp founded 1901; it lies near the Glass Harbour", documents)
    assert sorted(facts) == [("Title 1", 0), ("Title 2", 1)]


def test_no_evidence_supports_nothing() -> None:
    """A question whose every search came back empty still has to be finished."""
    assert supporting_facts("When?", []) == []
