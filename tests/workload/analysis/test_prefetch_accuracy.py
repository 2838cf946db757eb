"""The accuracy of drafts decides whether prefetch pays: a lenient comparison would promise savings that do not come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.stubs.load import Rows, run_of
from workload.analysis.prefetch_accuracy import NOT_MEASURED, measure_drafts
from workload.analysis.spans import measured_loads
from workload.record.results import evidence_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

FINAL = "mayor of Varn"
REPLIES = [json.dumps({"query": FINAL}), json.dumps({"clues": ["a clue"]}), "{}", "An answer."]


def measured(
    folder: Path,
    documents: Callable[[str], frozenset[str]] | None,
    *,
    has_texts: bool = True,
    shares_cpu: bool = False,
) -> Mapping[str, Any]:
    """Return what is known of the drafts of one question of one hop, whose query is `FINAL`."""
    rows = Rows()
    rows.ask(trajectory=json.dumps({"queries": [FINAL]}))
    data = run_of(rows, folder, retrieve=documents, replies=REPLIES if has_texts else None)
    (load,) = measured_loads(data)
    return measure_drafts(evidence_of(data), load, shares_cpu=shares_cpu)


def test_a_draft_is_right_only_if_it_finds_the_same_documents(tmp_path: Path) -> None:
    """Half of the documents are half of the evidence, and the agent would search again."""
    documents = {FINAL: {"a", "b"}, "mayor": {"b", "a"}, "Who?": {"a"}}
    found = measured(tmp_path, lambda query: frozenset(documents.get(query, {query})))["sources"]
    assert (found["half the query"]["accuracy"]["right"], found["question"]["accuracy"]["right"]) == (1, 0)
    assert found["question"]["documents_shared_mean"] == 0.5
    assert found["half the query"]["same_text"] == {"hops": 1, "right": 0}


def test_the_ceiling_is_the_time_between_draft_and_need(tmp_path: Path) -> None:
    """The question is known 1 s before its retrieval of 70 ms; half of the query only 0.375 s before."""
    found = measured(tmp_path, None)
    assert found["retrieval_seconds"] == pytest.approx(0.07)
    assert found["sources"]["question"]["slack_seconds_median"] == pytest.approx(1.0)
    assert found["sources"]["half the query"]["slack_seconds_median"] == pytest.approx((1.0 - 0.25) / 2)
    assert found["sources"]["question"]["ceiling_seconds"] == pytest.approx(0.07)
    assert found["sources"]["last clue"]["ceiling_seconds"] == 0.0  # there is no second hop to draft for


def test_without_texts_nothing_is_claimed(tmp_path: Path) -> None:
    """A run that was not recorded with its prompts has instants, and no query to look up."""
    found = measured(tmp_path, lambda _: frozenset("x"), has_texts=False)
    assert found["repeatable"] is None
    assert {source["accuracy"] for source in found["sources"].values()} == {NOT_MEASURED}
    assert {source["bound"] for source in found["sources"].values()} == {None}


def test_a_store_that_answers_differently_is_found_out(tmp_path: Path) -> None:
    """If the final query itself finds other documents the second time, a wrong draft cannot be known from noise."""
    asked: list[str] = []

    def documents(query: str) -> frozenset[str]:
        asked.append(query)
        return frozenset({str(asked.count(FINAL))} if query == FINAL else {query})

    assert measured(tmp_path, documents)["repeatable"] is False


def test_a_wrong_draft_costs_where_the_cpu_is_shared(tmp_path: Path) -> None:
    """On a machine without a GPU a search in vain slows the engine down, so the bound may be a loss."""
    alone = measured(tmp_path / "a", lambda query: frozenset({query}))["sources"]["question"]["bound"]
    shared = measured(tmp_path / "b", lambda query: frozenset({query}), shares_cpu=True)["sources"]["question"]["bound"]
    assert alone["measured"]["seconds"] == 0.0
    assert shared["measured"]["seconds"] == pytest.approx(-0.07)
