"""Arms against the first of them, from measured rows to the words that a user reads."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.drawing import drawing_of
from tests.stubs.run import call, measured, question, run_of
from workload.analysis.ab_wording import verdicts
from workload.analysis.costs import computed_beside, fit_costs
from workload.analysis.prediction import predict
from workload.arms import parse_arms
from workload.charts.ab import title_of
from workload.experiments.ab import ab_experiment, differing, recording

if TYPE_CHECKING:
    from pathlib import Path

    from workload.experiment import Experiment
    from workload.results import Row, RunData

ARMS = parse_arms(("original", "append-only", "small:max-num-seqs=4"))
# Seconds a token, and of a call and a question what no token changes: the prediction must find the first alone.
SLOPE, CALL_SECONDS, REST_SECONDS = 0.001, 0.05, 3.0
UNCACHED = {"original": 1000, "append-only": 400, "small": 1000}


def run(count: int = 8, **answered: Any) -> RunData:
    """Return a run in which time follows uncached tokens exactly, but for a tenth that depends on the question."""
    questions: list[Row] = []
    calls: list[Row] = []
    for number in range(count):
        for arm, tokens in UNCACHED.items():
            row_id = len(questions)
            uncached = [tokens + 10 * number, tokens // 2]
            ttft = [CALL_SECONDS + SLOPE * each for each in uncached]
            seconds = REST_SECONDS + sum(ttft)
            questions.append(question(row_id, arm, question_id=f"q{number}", duration_seconds=seconds, **answered))
            calls += [
                call(row_id, arm, prompt_tokens=2000, cached_tokens=2000 - each, reusable_tokens=2000 - each)
                | {"ttft_seconds": first, "completion_tokens": 8}
                for each, first in zip(uncached, ttft, strict=True)
            ]
    return run_of([measured(arm) for arm in UNCACHED], calls, questions)


def experiment() -> Experiment:
    """Return the comparison of the arms."""
    return ab_experiment(ARMS)


def summarise(data: RunData, replay: str | None = "record", order: str = "ABBA") -> dict[str, Any]:
    """Return the summary as a run completes it, having been through JSON."""
    more = {"replay_of": replay, "order": order, "accounting": [{"sent": 8, "failed": {"timeout": 1}}]}
    return dict(json.loads(json.dumps({**experiment().reduce(data), **more}, allow_nan=False)))


def test_the_prediction_is_what_the_saved_tokens_take() -> None:
    """Amdahl with a known slope: the fixed part of a call is not saved, so it must not be predicted as saved."""
    data = run()
    calls = data.calls_of("original")
    costs = fit_costs(calls, [0.0] * len(calls))
    assert costs
    assert (costs.per_token, costs.per_attended_token) == pytest.approx((SLOPE, 0), rel=1e-3, abs=SLOPE / 1e6)
    found = summarise(data)
    predicted, whole = found["predicted"]["append-only"], found["compared"]["append-only"]["end_to_end_seconds"]
    assert predicted["change"] == pytest.approx(whole["change"])
    assert predicted["change"] < -0.15
    assert predicted["inside_measured_interval"] is True


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
    found = (costs.per_token, costs.per_attended_token)
    assert found[0] + found[1] * typical == pytest.approx(per_token + per_attended * typical, rel=0.25)
    if not stragglers:
        assert found == pytest.approx((per_token, per_attended), rel=0.02, abs=1e-9 + per_token / 1e4)
    assert costs.per_context_token == pytest.approx(per_context, rel=0.02)
    assert costs.per_token_beside == 0


def crowded(chance: random.Random, arm: str, share_cached: float, per_token_beside: float) -> list[Row]:
    """Return 300 calls, several at a time, that decode longer by what is computed beside them."""
    rows = []
    for number in range(300):
        prompt = chance.randint(100, 900)
        cached = int(prompt * share_cached)
        start, ttft = 1000 + 0.1 * number, 0.03 + 1e-4 * (prompt - cached)
        rows.append(
            call(number, arm, started_at=start, ttft_seconds=ttft, prompt_tokens=prompt, cached_tokens=cached)
            | {"completion_tokens": 41, "duration_seconds": ttft + 0.8}
        )
    for _ in range(30):  # the longer a call is made to wait, the more is computed beside it
        for row, tokens in zip(rows, computed_beside(rows), strict=True):
            row["duration_seconds"] = row["ttft_seconds"] + 0.8 + per_token_beside * tokens
    return rows


@given(st.integers(0, 2**32), st.floats(1e-6, 1e-5))
@settings(deadline=None)
def test_what_is_computed_beside_a_call_costs(seed: int, planted: float) -> None:
    """At 16 at a time on a GPU a cache brings most of its gain to the calls that decode, not to the one that hits."""
    calls = crowded(random.Random(seed), "original", 0.2, planted)
    costs = fit_costs(calls, computed_beside(calls))
    assert costs
    assert costs.per_token_beside == pytest.approx(planted, rel=0.02)
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
    assert predicted.change == pytest.approx(seconds[1] / seconds[0] - 1, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 3), st.floats(0, 9), st.integers(0, 50)), max_size=12))
def test_beside_a_call_is_what_others_computed_while_it_decoded(told: list[tuple[float, float, float, int]]) -> None:
    """By the instant of their first token, which ends the step that computed the last of a prompt."""
    rows = [
        call(
            0, started_at=start, ttft_seconds=ttft, duration_seconds=ttft + more, prompt_tokens=50, cached_tokens=cached
        )
        for start, ttft, more, cached in told
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
    assert computed_beside(rows) == expected


def test_a_longer_context_is_predicted_to_cost() -> None:
    """An arm that computes half as much and holds thrice as much may be slower; theory has to allow for it."""
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
    assert predicted.change is not None
    assert predicted.change > 0.1


def test_a_prediction_outside_of_the_interval_says_so() -> None:
    """A theory that is never refuted explains nothing."""
    data = run()
    for row in data.questions:
        row["duration_seconds"] += row["arm"] == "append-only"
    assert summarise(data)["predicted"]["append-only"]["inside_measured_interval"] is False
    assert any("OUTSIDE the interval" in sentence for sentence in verdicts(summarise(data)))


def test_what_no_theory_covers_is_left_unpredicted() -> None:
    """A predicted 0 % for a batching flag would look like a confirmed null."""
    found = summarise(run())
    assert found["predicted"]["small"]["change"] is None
    assert "no theory says what max-num-seqs saves" in "\n".join(verdicts(found))
    assert predict(run(2), "original", "append-only", frozenset()).why_not is not None
    assert predict(run(0), "original", "append-only", frozenset()).change is None


def test_arms_differ_by_what_was_typed_and_by_their_profiles() -> None:
    """Which theory applies follows from it."""
    assert differing(ARMS[0], ARMS[1]) == {"layout"}
    assert differing(ARMS[1], ARMS[2]) == {"layout", "max_num_seqs"}
    off, on = parse_arms(("prefix-off", "on:prefix-caching=true"))
    assert differing(off, on) == {"prefix_caching"}


def test_the_table_has_a_row_for_each_arm_the_fastest_first() -> None:
    """The ranked table is what a user came for; the first arm stands on top with its absolute values."""
    rows = experiment().headline(summarise(run()))
    assert [row[0] for row in rows] == ["original", "append-only", "small"]
    assert all(len(row) == len(experiment().columns) for row in rows)
    assert rows[1][1].startswith("-58.6%")
    assert rows[2][3].startswith("+0.0%")
    assert rows[2][5] == "no theory"


def test_verdicts_are_a_sentence_an_arm() -> None:
    """Faster, no measurable change, and too few for an interval are three findings, never one."""
    told = verdicts(summarise(run()))
    assert told[0].startswith("append-only against original: faster, end to end -")
    assert "small against original: no measurable change" in told[1]
    assert "8 questions sent, 1 failed." in told
    assert "no interval, for 3 questions are too few" in verdicts(summarise(run(3)))[0]
    assert "(order-confounded: AB order)" in verdicts(summarise(run(), order="AB"))[0]


def test_the_control_stands_beside_each_arm() -> None:
    """What no option of the prompts saves is printed for each; and every change says that it is paired."""
    data = run()
    for row in data.calls:
        row["duration_seconds"] = row["ttft_seconds"] + (0.7 if row["arm"] == "append-only" else 1.4)
    found = summarise(data)
    assert [row[4] for row in experiment().headline(found)] == [
        "0.2 s\n[0.2, 0.2]", "-50.0%\n[-50.0%, -50.0%]", "+0.0%\n[0.0%, 0.0%]"
    ]  # fmt: skip
    assert experiment().columns[0].startswith("paired change")
    assert "; drift, or what its own prompts cost each token: decode time a token moved by -50.0%" in verdicts(found)[0]


def test_a_flag_of_the_engine_may_change_decoding() -> None:
    """A smaller batch that decodes faster does what it was chosen for; to call it drift would hide the effect."""
    data = run()
    for row in data.calls:
        row["duration_seconds"] = row["ttft_seconds"] + (0.7 if row["arm"] == "small" else 1.4)
    assert "drift" not in verdicts(summarise(data))[1]


@pytest.mark.parametrize(("more", "is_said"), [(-1.5, True), (0.3, False)])
def test_more_than_theory_allows_is_said(*, more: float, is_said: bool) -> None:
    """-10 % where theory allows -3 % leaves seven points that are somebody else's."""
    data = run()
    for row in data.questions:
        row["duration_seconds"] += more * (row["arm"] == "append-only")
    told = verdicts(summarise(data))[0]
    assert ("points can be append-only's" in told) is is_said


def test_a_replay_claims_nothing_about_quality() -> None:
    """The texts come from the record, so equal scores are no finding; and a bad reader proves nothing either."""
    assert any("say nothing about the arms" in sentence for sentence in verdicts(summarise(run())))
    bad = verdicts(summarise(run(answer_f1=0.1), replay=None))
    assert any("nothing is claimed about quality" in sentence for sentence in bad)
    good = verdicts(summarise(run(), replay=None))
    assert any("Change of F1: append-only 0 [0, 0]" in sentence for sentence in good)


def test_an_arm_without_answers_is_no_zero() -> None:
    """All questions of an arm may fail; then nothing is known of it, and it is ranked last."""
    data = run()
    for row in data.questions:
        if row["arm"] == "append-only":
            row["outcome"] = "failed"
    found = summarise(data)
    assert found["ranked"] == ["small", "append-only"]
    assert "append-only: no question was answered in both arms." in verdicts(found)


@pytest.mark.parametrize("count", [3, 8])
def test_the_picture_is_drawn_with_and_without_intervals(tmp_path: Path, count: int) -> None:
    """A picture that needs an interval would fail at the end of a short run."""
    data = run(count)
    (path,) = experiment().draw(drawing_of(experiment(), data, summarise(data), tmp_path))
    assert path.name == "ab.png"
    assert path.stat().st_size > 10_000


def test_the_title_claims_only_what_was_measured() -> None:
    """A picture is copied without its intervals' meaning; its title must not sell a null as a gain."""
    assert title_of(summarise(run())).startswith("append-only changes the time of a question by -")
    assert "too few questions" in title_of(summarise(run(3)))
    null = run()
    for row in null.questions:
        row["duration_seconds"] = 5.0
    assert title_of(summarise(null)) == "No arm makes a question measurably faster than original"


def test_a_recording_is_summed_up_as_every_run_is() -> None:
    """The report reads quality by arm; one that is told otherwise ends the comparison before it has begun."""
    recorded = recording(ARMS[1])
    data = run_of([], (), [question(0, "recorded", question_id="q")])
    summary = recorded.reduce(data)
    assert summary["quality"]["recorded"]["questions"] == 1
    assert recorded.headline(summary) == [("questions", "1")]
    assert dict(recorded.arms[0].options) == {"layout": "append-only"}
