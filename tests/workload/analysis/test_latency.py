"""Where a question's time goes: a wrong assignment moves seconds from one node to its neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stubs.run import call, question
from workload.analysis.latency import (
    accumulated,
    answered,
    by_node,
    context_by_hop,
    distribution,
    ended,
    endings,
    hops_by_type,
)

if TYPE_CHECKING:
    from workload.record.results import Row


def visit(node: str, seconds: float, number: int = 0) -> Row:
    """Return a visit of a node."""
    return {"question": number, "node": node, "hop": 1, "duration_seconds": seconds, "outcome": "ok"}


def asked(number: int, **parts: Any) -> Row:
    """Return a question with its hops and its ending."""
    row = question(number) | {"hops": 2, "termination": "enough", "reason": None}
    return row | parts


def test_a_node_gets_its_own_time_and_no_other_s() -> None:
    """The prototype credited the time up to the next event to the node before: 0.05 s of retrieval became 0.30 s."""
    found = by_node([visit("retrieve", 0.05), visit("extract_clues", 1.75), visit("decide", 0.1)], [asked(0)])
    assert {node: row["median"] for node, row in found.items()} == {
        "retrieve": 0.05,
        "extract_clues": 1.75,
        "decide": 0.1,
    }
    assert found["retrieve"]["share"] == pytest.approx(0.05 / 2.0)


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=20))
def test_shares_add_up_to_the_time_inside_nodes(seconds: list[float]) -> None:
    """Shares above the whole would mean that a second was counted twice."""
    rows = [visit(("decompose", "decide")[index % 2], value) for index, value in enumerate(seconds)]
    found = by_node(rows, [asked(0, duration_seconds=sum(seconds))])
    assert sum(row["share"] for row in found.values()) == pytest.approx(1.0)


def test_failures_are_no_latency() -> None:
    """A question that was refused at once would make a broken system look fast."""
    rows = [asked(0), asked(1, outcome="failed", termination="error", reason="connection", duration_seconds=0.01)]
    assert [row["id"] for row in answered(rows)] == [0]
    assert set(by_node([visit("decide", 1.0), visit("decide", 0.005, 1)], rows)["decide"]["range"]) == {1.0}


def test_an_interrupted_question_is_in_no_account_of_endings() -> None:
    """It was asked again as another attempt; it has neither ended nor failed."""
    rows = [asked(0), asked(1, outcome="cancelled", termination="error"), asked(2, outcome=None)]
    assert [row["id"] for row in ended(rows)] == [0]
    assert {name: row["n"] for name, row in endings(rows).items()} == {"enough": 1}


def test_endings_say_what_when_and_why() -> None:
    """An error is reported by its reason, and shares are of all questions that ended."""
    rows = [
        asked(0, hops=1, duration_seconds=4.0),
        asked(1, hops=3, termination="max_hops", duration_seconds=9.0),
        asked(2, hops=3, termination="max_hops", duration_seconds=11.0),
        asked(3, hops=0, termination="error", outcome="failed", reason="timeout"),
    ]
    found = endings(rows)
    assert {name: row["share"] for name, row in found.items()} == {"enough": 0.25, "error": 0.25, "max_hops": 0.5}
    assert found["max_hops"]["seconds"]["median"] == 10.0
    assert found["max_hops"]["hops"] == {"3": 2}
    assert found["error"]["reasons"] == {"timeout": 1}


def test_hops_are_counted_by_type() -> None:
    """Bridge and comparison questions differ in their hops; a mean over both hides it."""
    rows = [asked(0, hops=1), asked(1, hops=3), asked(2, type="comparison", hops=2)]
    found = hops_by_type(rows)
    assert found["bridge"] == {"n": 2, "mean": 2.0, "hops": {"1": 1, "3": 1}}
    assert found["comparison"]["n"] == 1


def test_the_highest_of_few_questions_has_no_interval() -> None:
    """P95 of 20 questions is hardly known, as its interval must show; their P99 is unknown, and null in JSON."""
    found = {row["p"]: row for row in distribution([float(value) for value in range(1, 21)])}
    assert (found[0.95]["value"], found[0.95]["ci"]) == (19.0, None)
    assert (found[0.99]["value"], found[0.99]["ci"]) == (None, None)
    assert found[0.5]["ci"] is not None
    assert distribution([]) == []


def test_context_is_reported_by_node_and_hop() -> None:
    """`extract_clues` sees the documents and `decide` the clues; one mean over both is the length of no prompt."""
    calls = [
        call(0, node="decide", hop=1, prompt_tokens=100),
        call(0, node="decide", hop=2, prompt_tokens=300),
        call(0, node="extract_clues", hop=1, prompt_tokens=900),
        call(0, node="decide", hop=1, prompt_tokens=None, outcome="failed"),
    ]
    found = context_by_hop(calls)
    assert [(row["hop"], row["median"], row["n"]) for row in found["decide"]] == [(1, 100.0, 1), (2, 300.0, 1)]
    assert found["extract_clues"][0]["median"] == 900.0


def test_tokens_accumulate_over_hops_and_replies_count() -> None:
    """What a question has used by a hop is the sum of all its calls, prompts and replies, so far."""
    calls = [
        call(0, hop=1, prompt_tokens=100, completion_tokens=10),
        call(0, hop=1, prompt_tokens=50, completion_tokens=5),
        call(0, hop=2, prompt_tokens=200, completion_tokens=20),
        call(1, hop=1, prompt_tokens=None, completion_tokens=None, outcome="failed"),
    ]
    assert accumulated(calls) == {0: [(1, 165), (2, 385)]}
