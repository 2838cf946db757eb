"""Arms against the first of them, from measured rows to the words that a user reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.drawing import drawing_of
from tests.stubs.run import call, measured, question, run_of
from workload.analysis.ab_wording import verdicts
from workload.analysis.costs import fit_costs
from workload.analysis.prediction import predict
from workload.charts.ab import title_of
from workload.experiments.ab import ab_experiment, differing, recording
from workload.experiments.arms import parse_arms

if TYPE_CHECKING:
    from pathlib import Path

    from workload.experiment import Experiment
    from workload.record.results import Row, RunData

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
    assert (costs["per_token"], costs["per_attended_token"]) == pytest.approx((SLOPE, 0), rel=1e-3, abs=SLOPE / 1e6)
    found = summarise(data)
    predicted, whole = found["predicted"]["append-only"], found["compared"]["append-only"]["end_to_end_seconds"]
    assert predicted["change"] == pytest.approx(whole["change"])
    assert predicted["change"] < -0.15
    assert predicted["inside_measured_interval"] is True


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
    assert "no theory predicts the effect of max-num-seqs" in "\n".join(verdicts(found))
    assert predict(run(2), "original", "append-only", frozenset())["why_not"] is not None
    assert predict(run(0), "original", "append-only", frozenset())["change"] is None


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
    reported = verdicts(summarise(run()))
    assert reported[0].startswith("append-only against original: faster, end to end -")
    assert "small against original: no measurable change" in reported[1]
    assert "8 questions sent, 1 failed." in reported
    assert "no interval, because 3 questions are too few" in verdicts(summarise(run(3)))[0]
    assert any("n = 8; their intervals cover 94 to 96 %" in sentence for sentence in reported)
    assert any("n = 3; an interval needs 6" in sentence for sentence in verdicts(summarise(run(3))))
    assert "(order-confounded: AB order)" in verdicts(summarise(run(), order="AB"))[0]


def test_the_control_comes_with_each_arm() -> None:
    """What no option of the prompts saves is printed for each; and every change says that it is paired."""
    data = run()
    for row in data.calls:
        row["duration_seconds"] = row["ttft_seconds"] + (0.7 if row["arm"] == "append-only" else 1.4)
    found = summarise(data)
    assert [row[4] for row in experiment().headline(found)] == [
        "0.2 s\n[0.2, 0.2]", "-50.0%\n[-50.0%, -50.0%]", "+0.0%\n[0.0%, 0.0%]"
    ]  # fmt: skip
    assert experiment().columns[0].startswith("paired change")
    assert "; drift, or contexts of another length: decode time per token moved by -50.0%" in verdicts(found)[0]


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
    reported = verdicts(summarise(data))[0]
    assert ("points can come from append-only" in reported) is is_said


def test_a_replay_claims_nothing_about_quality() -> None:
    """The texts come from the record, so equal scores are no finding; and a bad reader proves nothing either."""
    assert any("say nothing about the arms" in sentence for sentence in verdicts(summarise(run())))
    bad = verdicts(summarise(run(answer_f1=0.1), replay=None))
    assert any("no claim is made about quality" in sentence for sentence in bad)
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
    pictures = experiment().draw(drawing_of(experiment(), data, summarise(data), tmp_path))
    assert [path.name for path in pictures] == ["paired.png", "ab.png"]
    assert all(path.stat().st_size > 10_000 for path in pictures)


def test_the_title_claims_only_what_was_measured() -> None:
    """A picture is copied without its intervals' meaning; its title must not sell a null as a gain."""
    assert title_of(summarise(run())).startswith("append-only changes the time of a question by -")
    assert "too few questions" in title_of(summarise(run(3)))
    null = run()
    for row in null.questions:
        row["duration_seconds"] = 5.0
    assert title_of(summarise(null)) == "No arm makes a question measurably faster than original"


def test_a_recording_is_summed_up_as_every_run_is() -> None:
    """The report reads quality by arm; a key by another name would end the comparison before it has begun."""
    recorded = recording(ARMS[1])
    data = run_of([], (), [question(0, "recorded", question_id="q")])
    summary = recorded.reduce(data)
    assert summary["quality"]["recorded"]["questions"] == 1
    assert recorded.headline(summary) == [("questions", "1")]
    assert dict(recorded.arms[0].options) == {"layout": "append-only"}
