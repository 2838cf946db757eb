"""How arms are compared: values per question, quality with speed, and whether the work was the same."""

from __future__ import annotations

import pytest

from tests.stubs.run import call, measured, question, run_of
from workload.analysis.ab import (
    amdahl,
    decode_time,
    diverged,
    end_to_end,
    quality,
    time_to_first_token,
    uncached_tokens,
)

ARM = "prefix-on"


def test_values_of_a_question() -> None:
    """Tokens are summed over a question's calls, TTFT is their mean, and latency is the question's own."""
    calls = [call(1), call(1, prompt_tokens=50, cached_tokens=0, ttft_seconds=1.5)]
    row = question(1)
    assert (uncached_tokens(row, calls), time_to_first_token(row, calls), end_to_end(row, calls)) == (86, 1.0, 2.0)


def test_the_control_is_the_time_of_further_tokens() -> None:
    """Over all tokens after each call's first; a call without a time to first token, or a second token, is left out."""
    calls = [call(1), call(1, ttft_seconds=0.2, completion_tokens=31), call(1, ttft_seconds=None)]
    assert decode_time(question(1), calls) == pytest.approx((0.5 + 0.8) / (10 + 30))
    assert decode_time(question(1), [call(1, completion_tokens=1), call(1, completion_tokens=None)]) is None
    assert decode_time(question(1), []) is None


def test_what_was_not_reported_leaves_the_question_out() -> None:
    """A server without cached tokens would else seem to compute nothing, or everything."""
    assert uncached_tokens(question(1), [call(1), call(1, cached_tokens=None)]) is None
    assert time_to_first_token(question(1), [call(1, ttft_seconds=None)]) is None
    assert time_to_first_token(question(1), []) is None


def test_a_question_is_averaged_over_its_blocks() -> None:
    """In ABBA each arm answers each question twice; counted as two questions they would halve every interval."""
    questions = [
        question(1, question_id="q1", duration_seconds=1.0),
        question(2, question_id="q1", duration_seconds=3.0),
        question(3, question_id="q2", duration_seconds=5.0),
        question(4, question_id="q3", outcome="failed", duration_seconds=9.0),
        question(5, "prefix-off", question_id="q1", duration_seconds=7.0),
    ]
    assert run_of([], (), questions).by_question(ARM, end_to_end) == {"q1": 2.0, "q2": 5.0}


def test_the_ceiling_is_share_times_saving() -> None:
    """A tenth of the time is prefill; a cache that saves half of it cannot bring more than 5 %."""
    unclosed = question(3, is_windowed=False, duration_seconds=1000.0)
    data = run_of([measured(prefill_seconds=0.4)], (), [question(1), question(2), unclosed])
    assert amdahl(data, ARM, -0.5) == {"prefill_share_of_question": 0.1, "predicted_end_to_end_change": -0.05}
    assert amdahl(data, ARM, None)["predicted_end_to_end_change"] is None


def test_no_ceiling_without_the_engine_s_own_prefill_time() -> None:
    """A release without the metric gives no share; zero would promise that caching can bring nothing."""
    unknown = {"prefill_share_of_question": None, "predicted_end_to_end_change": None}
    assert amdahl(run_of([measured()], (), [question(1)]), ARM, -0.5) == unknown
    assert amdahl(run_of([measured(prefill_seconds=0.4)]), ARM, -0.5) == unknown


def test_quality_is_of_the_answered_questions() -> None:
    """Every speed-up is printed with it; failed questions have no scores, and their number is stated instead."""
    rows = [question(1, answer_em=0.0), question(2), question(3, outcome="failed", answer_em=None)]
    found = quality(run_of([], (), rows), ARM)
    assert (found["questions"], found["answer_em"], found["facts_f1"]) == (2, 0.5, 0.5)
    assert quality(run_of([]), ARM)["answer_em"] is None


@pytest.mark.parametrize(("digests", "share"), [(["a", "a"], 0.0), (["a", "b"], 1.0), ([], None)])
def test_other_words_are_other_work(digests: list[str], share: float | None) -> None:
    """A question that took another path in the other arm compares two different jobs; the report must say how many."""
    rows = [question(number, digest=digest) for number, digest in enumerate(digests)]
    assert diverged(run_of([], (), rows)) == share
