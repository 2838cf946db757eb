"""The table that people compare servers by: each figure by `vllm bench serve`, absent where unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.stubs.run import call, measured, question, run_of
from workload.analysis.serving import e2e, is_good, itl, serving, serving_at, tpot, ttft

if TYPE_CHECKING:
    from workload.record.results import Row


def streamed(number: int, *gaps: float, first: float = 0.5, **parts: Any) -> Row:
    """Return a call whose chunks come `first` seconds after it was sent and then `gaps` seconds apart."""
    apart = np.round(1e6 * np.array(gaps)).astype(np.uint32).tobytes()
    return call(number, ttft_seconds=first, token_gaps=apart, phase="c1", **parts)


def asked(number: int, start: float, seconds: float, **parts: Any) -> Row:
    """Return a question that was due and sent at `start`."""
    return question(number, started_at=start, intended_at=start, duration_seconds=seconds, **parts)


def test_a_call_has_the_latencies_that_vllm_gives_it() -> None:
    """The end of a call is its last chunk with tokens: what the server sends afterwards has none."""
    one = streamed(0, 0.1, 0.2, 0.3, completion_tokens=5, duration_seconds=7.0)
    assert ttft(one) == [0.5]
    assert itl(one) == [0.1, 0.2, 0.3]
    assert e2e(one) == pytest.approx([1.1])
    assert tpot(one) == pytest.approx([0.6 / 4])


def test_a_single_token_has_no_time_per_output_token() -> None:
    """Its zero would pull the mean down."""
    one = streamed(0, completion_tokens=1)
    assert (itl(one), tpot(one), e2e(one)) == ([], [], [0.5])


def test_a_journal_without_chunks_has_no_time_between_them() -> None:
    """The mean over a call is not the inter-token latency; a recording of an older release has only that."""
    assert (itl(call(0)), tpot(call(0)), e2e(call(0))) == ([], [], [])
    row = serving_at("a", "c1", [asked(0, 0.0, 1.0)], [call(0)], slo={"itl": 1.0})
    assert row["latency_seconds"]["itl"] == {"n": 0, "mean": None, "p50": None, "p90": None, "p99": None}
    assert row["goodput"] is None


def test_rates_count_what_succeeded_over_the_time_of_the_load() -> None:
    """The time between two blocks of an arm belongs to the other arm."""
    questions = [asked(0, 100.0, 2.0), asked(1, 101.0, 3.0, outcome="failed"), asked(2, 500.0, 6.0, block=3)]
    calls = [streamed(0, 0.1), streamed(1, outcome="failed", prompt_tokens=None), streamed(2), streamed(2)]
    row = serving_at("a", "c1", questions, calls, slo={})
    assert row["seconds"] == 4.0 + 6.0
    assert (row["questions"], row["failed_questions"], row["requests"], row["failed_requests"]) == (2, 1, 3, 1)
    assert row["questions_per_second"] == 0.2
    assert row["requests_per_second"] == 0.3
    assert row["input_tokens_per_second"] == 30.0
    assert row["error_rate"] == 0.25
    assert row["latency_seconds"]["question"]["mean"] == 4.0
    assert row["goodput"] is None


def test_a_load_without_an_answer_has_no_latency() -> None:
    """Absent is not zero."""
    row = serving_at("a", "c1", [], [], slo={"question": 1.0})
    assert row["questions_per_second"] is None
    assert row["error_rate"] is None
    assert row["goodput"] == {"objectives": {"question": 1.0}, "n": 0, "good": 0, "share": None, "per_second": None}


def test_a_quantile_needs_a_value_beyond_it() -> None:
    """The P99 of twenty calls is their largest, whatever it is called."""
    row = serving_at("a", "c1", [asked(0, 0.0, 1.0)], [streamed(0, 0.01 * n) for n in range(20)], slo={})
    found = row["latency_seconds"]["itl"]
    assert found["p90"] == pytest.approx(float(np.percentile([0.01 * n for n in range(20)], 90)))
    assert found["p99"] is None


SLO: Any = {"ttft": 0.5, "itl": 0.15, "question": 2.0}


@pytest.mark.parametrize(
    ("row", "calls", "good"),
    [
        ({}, [streamed(0, 0.1, 0.2)], True),
        ({}, [streamed(0, 0.1, 0.2), streamed(0, 0.1, 0.21)], False),
        ({}, [streamed(0, 0.1, first=0.51)], False),
        ({"duration_seconds": 2.01}, [streamed(0, 0.1)], False),
        ({"outcome": "failed"}, [streamed(0, 0.1)], False),
        ({}, [streamed(0, 0.1), streamed(0, outcome="failed")], False),
        ({}, [call(0, ttft_seconds=None)], False),
        ({}, [streamed(0)], True),
    ],
    ids=["at its limits", "one slow call", "late", "long", "failed", "refused once", "no token", "one token"],
)
def test_a_question_is_good_if_all_of_it_was(row: Row, calls: list[Row], good: bool) -> None:
    """A slow call in the middle is a wait that the user sees."""
    assert is_good(question(0) | row, calls, SLO) is good


def test_goodput_is_of_all_questions_that_ended() -> None:
    """A server that fails every second question has not served it."""
    questions = [asked(0, 0.0, 1.0), asked(1, 1.0, 1.0, outcome="failed"), asked(2, 2.0, 2.0)]
    row = serving_at("a", "c1", questions, [streamed(0, 0.1), streamed(2, 0.1)], slo=SLO)
    assert row["goodput"] == {"objectives": SLO, "n": 3, "good": 2, "share": 2 / 3, "per_second": 0.5}


def test_each_arm_and_load_has_a_row() -> None:
    """Calls of one arm must not count for another."""
    windows = [measured("off"), measured("on", block=1), measured("off", block=2)]
    questions = [asked(0, 0.0, 1.0, arm="off"), asked(1, 0.0, 1.0, arm="on")]
    calls = [streamed(0, 0.1, arm="off"), streamed(1, 0.1, arm="on"), streamed(1, 0.1, arm="on")]
    rows = serving(run_of(windows, calls, questions), {})
    assert [(row["arm"], row["load"], row["requests"]) for row in rows] == [("off", "c1", 1), ("on", "c1", 2)]
