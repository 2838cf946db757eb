"""What tokens cost, fitted on calls whose costs were planted, and what follows from it for another arm."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.run import call, measured, question, run_of
from workload.analysis.costs import computed_meanwhile, fit_costs
from workload.analysis.prediction import predict

if TYPE_CHECKING:
    from workload.record.results import Row


def timed(chance: random.Random, arm: str, cost: tuple[float, float, float], stragglers: float = 0.0) -> list[Row]:
    """Return 200 calls whose times follow a cost of prefill, of attention and of decoding, a share of them late."""
    per_token, per_attended, per_context = cost
    rows = []
    for number in range(200):
        prompt, generated = chance.randint(100, 900), chance.randint(20, 60)
        cached = 16 * chance.randint(0, (prompt - 1) // 16)
        uncached = prompt - cached
        ttft = 0.03 + per_token * uncached + per_attended * uncached * (prompt - uncached / 2)
        decode = (generated - 1) * (0.02 + per_context * (prompt + generated / 2))
        late = 2.0 if chance.random() < stragglers else 0.0
        rows.append(
            call(number, arm, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=generated)
            | {"ttft_seconds": ttft + late, "duration_seconds": ttft + late + decode}
        )
    return rows


@given(
    st.integers(0, 2**32),
    st.floats(1e-5, 1e-2),
    st.floats(1e-8, 1e-5),
    st.floats(1e-8, 1e-5),
    st.sampled_from((0, 0.04)),
)
@settings(deadline=None)
def test_planted_costs_are_found(
    seed: int, per_token: float, per_attended: float, per_context: float, stragglers: float
) -> None:
    """What a prefix that is cached still costs, and a long context, is what made append-only no faster on a CPU."""
    calls = timed(random.Random(seed), "original", (per_token, per_attended, per_context), stragglers)
    costs = fit_costs(calls, [0.0] * len(calls))
    assert costs
    typical = np.median([call["prompt_tokens"] for call in calls])
    found = (costs["per_token"], costs["per_attended_token"])
    assert found[0] + found[1] * typical == pytest.approx(per_token + per_attended * typical, rel=0.25)
    if not stragglers:
        assert found == pytest.approx((per_token, per_attended), rel=0.02, abs=1e-9 + per_token / 1e4)
    assert costs["per_context_token"] == pytest.approx(per_context, rel=0.02)
    assert costs["per_token_beside"] == 0


def crowded(chance: random.Random, arm: str, share_cached: float, per_token_meanwhile: float) -> list[Row]:
    """Return 300 calls, several at a time, that decode longer by what is computed at the same time."""
    rows = []
    for number in range(300):
        prompt = chance.randint(100, 900)
        cached = int(prompt * share_cached)
        start, ttft = 1000 + 0.1 * number, 0.03 + 1e-4 * (prompt - cached)
        rows.append(
            call(number, arm, started_at=start, ttft_seconds=ttft, prompt_tokens=prompt, cached_tokens=cached)
            | {"completion_tokens": 41, "duration_seconds": ttft + 0.8}
        )
    for _ in range(30):  # the longer a call has to wait, the more is computed meanwhile
        for row, tokens in zip(rows, computed_meanwhile(rows), strict=True):
            row["duration_seconds"] = row["ttft_seconds"] + 0.8 + per_token_meanwhile * tokens
    return rows


@given(st.integers(0, 2**32), st.floats(1e-6, 1e-5))
@settings(max_examples=25)
def test_what_is_computed_during_a_call_costs(seed: int, planted: float) -> None:
    """At 16 at a time on a GPU a cache brings most of its gain to the calls that decode, not to the one that hits."""
    calls = crowded(random.Random(seed), "original", 0.2, planted)
    costs = fit_costs(calls, computed_meanwhile(calls))
    assert costs
    assert costs["per_token_beside"] == pytest.approx(planted, rel=0.02)
    arms = {"original": calls, "append-only": crowded(random.Random(seed), "append-only", 0.6, planted)}
    questions = [
        question(
            row["question"] + shift, arm, question_id=f"q{row['question']}", duration_seconds=row["duration_seconds"]
        )
        for shift, (arm, rows) in zip((0, 300), arms.items(), strict=True)
        for row in rows
    ]
    for row in arms["append-only"]:
        row["question"] += 300
    data = run_of([measured(arm) for arm in arms], [*calls, *arms["append-only"]], questions)
    predicted = predict(data, "original", "append-only", frozenset({"layout"}))
    seconds = [sum(row["duration_seconds"] for row in rows) for rows in arms.values()]
    assert predicted["change"] == pytest.approx(seconds[1] / seconds[0] - 1, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 3), st.floats(0, 9), st.integers(0, 50)), max_size=12))
def test_the_work_of_others_is_what_they_computed_while_a_call_decoded(
    reported: list[tuple[float, float, float, int]],
) -> None:
    """By the instant of their first token, which ends the step that computed the last of a prompt."""
    rows = [
        call(
            0, started_at=start, ttft_seconds=ttft, duration_seconds=ttft + more, prompt_tokens=50, cached_tokens=cached
        )
        for start, ttft, more, cached in reported
    ]
    firsts = [row["started_at"] + row["ttft_seconds"] for row in rows]
    expected = [
        sum(
            other["prompt_tokens"] - other["cached_tokens"]
            for other, at in zip(rows, firsts, strict=True)
            if first < at <= row["started_at"] + row["duration_seconds"]
        )
        for row, first in zip(rows, firsts, strict=True)
    ]
    assert computed_meanwhile(rows) == expected


def test_a_longer_context_is_predicted_to_cost() -> None:
    """An arm that computes half as much and caches three times as much may be slower; theory has to allow for it."""
    chance = random.Random(5)
    calls = timed(chance, "original", (1e-4, 1e-7, 1e-5))
    questions = [
        question(n, "original", question_id=f"q{n}", duration_seconds=each["duration_seconds"])
        for n, each in enumerate(calls)
    ]
    for number, each in enumerate(list(calls)):
        longer = {"prompt_tokens": 3 * each["prompt_tokens"], "cached_tokens": 3 * each["prompt_tokens"] - 50}
        calls.append({**each, **longer, "question": 200 + number, "arm": "append-only"})
        questions.append(question(200 + number, "append-only", question_id=f"q{number}", duration_seconds=1.0))
    data = run_of([measured(arm) for arm in ("original", "append-only")], calls, questions)
    predicted = predict(data, "original", "append-only", frozenset({"layout"}))
    assert predicted["change"] is not None
    assert predicted["change"] > 0.1


def test_a_clock_that_does_not_tick_shows_no_costs() -> None:
    """Most times to the first token are 0 where a server streams its whole answer at once: no slope, and no crash."""
    calls = timed(random.Random(5), "original", (1e-4, 1e-7, 1e-5))
    for each in calls[:150]:
        each.update({"ttft_seconds": 0.0, "duration_seconds": 0.0})
    assert fit_costs(calls, [0.0] * len(calls)) is None


def test_a_question_of_no_time_predicts_nothing_of_the_others() -> None:
    """Two clock readings may be equal; a change has no share of that, and the other questions are predicted as ever."""
    calls = timed(random.Random(5), "original", (1e-4, 1e-7, 1e-5))
    questions = [question(n, "original", question_id=f"q{n}") for n in range(len(calls))]
    others = [{**row, "arm": "append-only", "cached_tokens": 0, "question": 200 + row["question"]} for row in calls]
    questions += [question(200 + n, "append-only", question_id=f"q{n}") for n in range(len(calls))]

    def predicted(seconds: float) -> float | None:
        first = {**questions[0], "duration_seconds": seconds}
        data = run_of([measured(arm) for arm in ("original", "append-only")], calls + others, [first, *questions[1:]])
        return predict(data, "original", "append-only", frozenset({"layout"}))["change"]

    assert predicted(0.0) == pytest.approx(predicted(2.0), rel=0.01)
