"""What prefetch did, and the most it could have saved: both from the journal's rows alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stubs.run import call, question, run_of
from workload.analysis.prefetch_outcome import bound_by_question, draft_outcomes, share_of_bound
from workload.record.results import RunData


def draft(outcome: str, hop: int = 2, seconds: float = 1.0, waited: float = 0.0, **parts: Any) -> dict[str, Any]:
    """Return a row of a draft, as the journal keeps it, with its question's id."""
    row = {"question": 1, "question_id": "q", "hop": hop, "outcome": outcome, "started_at": 1000.0}
    return {**row, "duration_seconds": seconds, "waited_seconds": waited, **parts}


def test_waste_is_all_that_was_not_used() -> None:
    """A draft that no hop needed costs as much as a wrong one, but says nothing of the drafts' accuracy."""
    found = draft_outcomes([draft("used", waited=0.25), draft("wrong"), draft("unneeded", seconds=2.0)])
    assert found == {
        "drafts": 3,
        "needed": 2,
        "used": 1,
        "accuracy": 0.5,
        "hidden_seconds": 0.75,
        "wasted_seconds": 3.0,
    }
    assert draft_outcomes([]) is None


def off_arm(slack: float) -> RunData:
    """Return a question of the arm without prefetch: its second hop's clue came `slack` before the need, 1 s long."""
    calls = [call(0, "off", id=5, node="extract_clues", hop=1, started_at=1000.0, duration_seconds=1.0)]
    stages = [
        {"question": 0, "arm": "off", "stage": stage, "hop": 2, "started_at": at, "duration_seconds": seconds}
        for stage, at, seconds in (("embed", 1001.0 + slack, 0.25), ("search", 1001.25 + slack, 0.75))
    ]
    run = run_of([], calls, [question(0, "off", trajectory=None), question(1, "on")])
    return RunData(measured=run.measured, questions=run.questions, calls=run.calls, visits=(), stages=stages)


@pytest.mark.parametrize(
    ("slack", "outcomes", "expected"),
    [
        (5.0, ["used"], 1.0),  # all of the retrieval fits
        (0.4, ["used"], 0.4),  # only what lies between draft and need
        (5.0, ["used", "wrong"], 0.5),  # as often as the drafts came true
        (5.0, ["wrong"], 0.0),
        (5.0, ["unneeded"], 0.0),
        (5.0, [], 0.0),
    ],
)
def test_the_bound_is_the_retrieval_that_fits_when_the_draft_is_right(
    slack: float, outcomes: list[str], expected: float
) -> None:
    """min(retrieval, slack) x P, hop by hop; a bound without the slack would promise what no prefetch can keep."""
    found = bound_by_question(off_arm(slack), "off", [draft(outcome) for outcome in outcomes], "last-clue")
    assert found == {"q": pytest.approx(expected)}


def test_a_source_that_gives_no_draft_for_a_hop_saves_nothing_there() -> None:
    """Drafting from the question knows the first query only."""
    assert bound_by_question(off_arm(5.0), "off", [draft("used")], "question") == {"q": 0.0}


def test_the_share_of_the_bound_is_over_all_questions() -> None:
    """A question without a right draft is allowed nothing; its noise still counts in what was saved."""
    asked = [
        question(number, arm, question_id=name, duration_seconds=seconds)
        for number, (arm, name, seconds) in enumerate(
            [("off", "a", 5.0), ("on", "a", 4.2), ("off", "b", 3.0), ("on", "b", 3.1)]
        )
    ]
    found = share_of_bound(run_of([], (), asked), "off", "on", {"a": 1.0, "b": 0.0, "gone": 9.0})
    assert found == {
        "saved_seconds": pytest.approx(0.35),
        "bound_seconds": pytest.approx(0.5),
        "share": pytest.approx(0.7),
    }
    assert share_of_bound(run_of([], (), asked), "off", "on", {"a": 0.0}) is None
