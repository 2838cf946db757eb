"""The promised saving of prefetch must respect that the next query does not exist before `decide`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.analysis.prefetch_bound import Hop, draft_accuracy, prefetch_bound

seconds = st.floats(0, 100)
hops = st.builds(Hop, seconds, seconds, st.none() | seconds, st.just(0.0))


def test_a_planted_bound_is_returned() -> None:
    """Retrieval of 2 s, 1.5 s of slack, drafts right in 60 %, 0.1 s wasted: 0.8 s a hop."""
    found = prefetch_bound([Hop(2.0, needed_at=11.5, draft_at=10.0, waste_seconds=0.1)] * 2, 0.6, serial_seconds=10)
    assert found["seconds"] == pytest.approx(1.6)
    assert found["speedup"] == pytest.approx(10 / 8.4)


def test_savings_without_the_dependency_would_be_promised_for_nothing() -> None:
    """The trap: min(LLM time, retrieval time) promises 3 s where every query is written just before its search."""
    llm_seconds, retrievals = 20.0, [Hop(1.0, needed_at=5.0 * hop, draft_at=5.0 * hop) for hop in (1, 2, 3)]
    naive = min(llm_seconds, sum(hop.retrieval_seconds for hop in retrievals))
    assert naive == 3.0
    assert prefetch_bound(retrievals, 1.0, 23.0)["seconds"] == 0.0


def test_wrong_drafts_can_cost_more_than_they_save() -> None:
    """A negative bound is a finding; cutting it off at zero would sell a slowdown as a null."""
    found = prefetch_bound([Hop(0.02, needed_at=1.0, draft_at=0.5, waste_seconds=0.05)], 0.3, 5.0)
    assert found["seconds"] < 0
    assert found["speedup"] < 1


@given(st.lists(hops, max_size=8), st.floats(0, 1))
def test_never_more_than_retrieval_or_slack(found: list[Hop], right: float) -> None:
    """A bound above the retrieval time itself would be no bound."""
    for hop in found:
        saved = prefetch_bound([hop], right, 10_000.0)["seconds"]
        slack = 0.0 if hop.draft_at is None else max(hop.needed_at - hop.draft_at, 0.0)
        assert 0 <= saved <= min(hop.retrieval_seconds, slack) + 1e-12


def test_a_draft_is_right_when_it_finds_the_same_documents() -> None:
    """The order of documents does not matter, since reranking follows; one document more or less does."""
    pairs = [(["a", "b"], ["b", "a"]), (["a", "b"], ["a", "c"]), (["a"], ["a", "b"]), (["x"], ["x"])]
    found = draft_accuracy(pairs)
    assert (found["hops"], found["right"], found["share"]) == (4, 2, 0.5)
    assert found["ci"][0] < 0.1
    assert found["ci"][1] > 0.9


def test_no_pairs_are_no_accuracy() -> None:
    """Never measured is not never right."""
    with pytest.raises(ValueError, match="No hop"):
        draft_accuracy([])
