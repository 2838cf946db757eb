"""Experiment 4 from measured rows to the words that a user reads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.run import call, measured, question, run_of
from workload.experiments import EXPERIMENTS
from workload.experiments.vllm_metrics import OFF, ON, VLLM_METRICS, headline, reduce, title, verdicts
from workload.panels.vllm_metrics import THROUGHPUT
from workload.promql.vllm_metrics import HITS, QUERIES

if TYPE_CHECKING:
    from workload.record.results import Row, RunData

QUESTIONS = 6


def good_run() -> RunData:
    """Return a run of one start an arm in which the cache serves 64 of 100 tokens and halves every time."""
    questions: list[Row] = []
    calls: list[Row] = []
    for number in range(QUESTIONS):
        for arm, cached, seconds in ((OFF.name, 0, 2.0), (ON.name, 64, 1.0)):
            row_id = 2 * number + (arm == ON.name)
            questions.append(question(row_id, arm, question_id=f"q{number}", duration_seconds=seconds))
            calls.append(call(row_id, arm, cached_tokens=cached, ttft_seconds=seconds / 4))
    windows = [
        measured(OFF.name, caching=False, hits=0, queries=0, prefill_seconds=3.0),
        measured(ON.name, hits=64 * QUESTIONS, queries=100 * QUESTIONS),
    ]
    return run_of(windows, calls, questions)


def summarise(data: RunData, order: str = "AB") -> dict[str, Any]:
    """Return the summary as a run completes it, having been through JSON."""
    accounting = [{"sent": QUESTIONS, "failed": {}}, {"sent": QUESTIONS, "failed": {"timeout": 1}}]
    summary = {**reduce(data), "accounting": accounting, "order": order}
    return dict(json.loads(json.dumps(summary, allow_nan=False)))


def test_the_off_arm_says_caching_off() -> None:
    """The prototype printed a hit rate of 0 % for the off arm; it has no hit rate."""
    summary = summarise(good_run())
    assert headline(summary)[0][:3] == ("Prefix cache hit rate", "caching off", "64.0%")
    assert all(len(row) == len(VLLM_METRICS.columns) for row in headline(summary))


def test_the_comparison_is_paired_and_has_its_ceiling() -> None:
    """The gain is printed with what theory allows: prefill was 3 of 12 s, 64 % of it saved, so at most 16 %."""
    summary = summarise(good_run())
    assert summary["compared"]["uncached_prefill_tokens"]["change"] == 0.36 - 1
    assert summary["compared"]["end_to_end_seconds"]["n"] == QUESTIONS
    assert abs(summary["amdahl"]["predicted_end_to_end_change"] + 0.16) < 1e-9


def test_verdicts_say_what_a_reader_must_know() -> None:
    """Agreement, equality with the bound, the confounded order, and failures, each in one sentence."""
    reported = "\n".join(verdicts(summarise(good_run())))
    for words in (
        "agree to the token",
        "6 of 6",
        "order-confounded: AB order",
        "n = 6; their intervals cover",
        "12 questions sent, 1 failed",
    ):
        assert words in reported
    assert "AB order" not in "\n".join(verdicts(summarise(good_run(), "ABBA")))
    assert "took another path" not in reported


def drifting(decoding: float, saved: float = 0.0) -> RunData:
    """Return a run that with caching on decodes for `decoding` times as long and is `saved` seconds faster in all."""
    data = good_run()
    for row in (*data.questions, *data.calls):
        is_on = row["arm"] == ON.name
        if "ttft_seconds" in row:
            row["ttft_seconds"] = 0.5
            row["duration_seconds"] = 0.5 + 1.0 * (decoding if is_on else 1.0)
        else:
            row["duration_seconds"] = 2.0 - (saved if is_on else 0.0)
    return data


def test_the_control_comes_with_the_change() -> None:
    """Caching cannot change the decode time a token; what it moved by is the machine's, and a reader must see it."""
    summary = summarise(drifting(0.8, saved=0.2))
    row = next(found for found in headline(summary) if "decode time per token" in found[0])
    assert row[0] == "Control: decode time per token, median"
    assert row[1:] == ("0.1 s\n[0.1, 0.1]", "0.08 s\n[0.08, 0.08]", "-20.0%\n[-20.0%, -20.0%]")
    assert VLLM_METRICS.columns[-1] == "paired change"


@pytest.mark.parametrize(("decoding", "saved", "is_drift"), [(0.8, 0.2, True), (1.2, 0.2, True), (0.98, 0.2, False)])
def test_a_control_that_moved_by_more_than_the_effect(*, decoding: float, saved: float, is_drift: bool) -> None:
    """Three quickstarts printed -10.5, -1.6 and -6.1 % end to end; decoding had moved by up to -20 % in the first."""
    reported = verdicts(summarise(drifting(decoding, saved)))[0]
    assert ("; drift: decode time per token moved by" in reported) is is_drift


def test_what_theory_does_not_explain_and_the_control_does_is_drift() -> None:
    """A quickstart on a busy machine: -21.8 % end to end where theory allows -3.7 %, and -12.6 % per decoded token."""
    reported = verdicts(summarise(drifting(0.8, saved=0.6)))[0]
    assert (
        "; at most 16.0 points can come from caching; drift: decode time per token moved by -20.0% [-20.0%, -20.0%]."
        in reported
    )
    assert "drift" not in verdicts(summarise(drifting(1.2, saved=0.6)))[0]


def test_more_than_theory_allows_is_said_to_be_no_effect_of_caching() -> None:
    """Prefill was 3 of 12 s, 64 % of it saved: of the -50 % measured 16 points can be caching's."""
    assert "; at most 16.0 points can come from caching" in verdicts(summarise(good_run()))[0]
    assert "at most" not in verdicts(summarise(drifting(1.0, saved=0.1)))[0]
    assert "at most" not in verdicts(summarise(drifting(1.0, saved=-1.0)))[0]


def test_a_run_in_which_everything_failed_still_reports() -> None:
    """The one run that needs explaining must not end in a traceback of its own analysis."""
    windows = [measured(OFF.name, caching=False), measured(ON.name)]
    questions = [question(1, OFF.name, outcome="failed"), question(2, ON.name, outcome="failed")]
    summary = summarise(run_of(windows, (), questions))
    cells = [cell for row in headline(summary) for cell in row]
    assert "not known" in "".join(cells)
    assert any("cannot be compared" in sentence for sentence in verdicts(summary))


def test_unequal_work_is_said() -> None:
    """Numerics of cached blocks can flip a greedy token; those questions compare two different jobs."""
    data = good_run()
    data.questions[0]["digest"] = "another"
    assert any("16.7% of the questions took another path" in sentence for sentence in verdicts(summarise(data)))


def test_a_cut_call_is_reported_with_its_uncertainty() -> None:
    """One call that was cut after the engine had counted it made the whole report say DISAGREE."""
    data = good_run()
    on = data.measured[1]
    counted = {**on.counters, HITS: 64 * QUESTIONS + 32, QUERIES: 100 * QUESTIONS + 80}
    cut = call(99, ON.name, outcome="failed", prompt_tokens=None, cached_tokens=None, reusable_tokens=None)
    cut_run = replace(data, measured=[data.measured[0], replace(on, counters=counted)], calls=[*data.calls, cut])
    reported = " ".join(verdicts(summarise(cut_run)))
    assert "DISAGREE" not in reported
    assert "1 calls were cut before they reported their tokens. The engine counted 80 prompt tokens more" in reported
    assert "32 of them hits" in reported


def test_several_loads_are_compared_each_for_itself() -> None:
    """Questions of a crowded level take longer: averaged with those of a quiet one, neither would be reported."""
    data = good_run()
    assert summarise(data)["levels"] == {}
    crowd = [replace(part, window=replace(part.window, point="c4")) for part in data.measured]
    times = {"started_at": 0.0, "intended_at": 0.0}
    alone = [{**row, **times, "worker": "0"} for row in data.questions]
    beside = [
        {**row, "id": row["id"] + 100, "phase": "c4", "duration_seconds": 8.0, "worker": str(row["id"] % 4)}
        for row in alone
    ]
    calls = [{**row, "phase": "c1"} for row in data.calls]
    calls += [{**row, "question": row["question"] + 100, "phase": "c4"} for row in calls]
    both = run_of([*data.measured, *crowd], calls, [*alone, *beside])
    levels = summarise(both)["levels"]
    assert {point: level["compared"]["end_to_end_seconds"]["b"] for point, level in levels.items()} == {
        "c1": 1.0,
        "c4": 8.0,
    }
    assert [level["hit_rate"][ON.name]["bound"]["hit_rate"] for level in levels.values()] == [0.64, 0.64]
    assert sum("4 at a time" in row[0] for row in headline(summarise(both))) == 6


def test_a_title_of_several_levels_names_both_ends() -> None:
    """Averaged over levels, +18 % of the fullest and -5 % of a quiet one were +11.8 % of none."""
    summary = summarise(good_run())
    assert title(THROUGHPUT, summary, {}).endswith("end to end by -50.0% [-50.0%, -50.0%] (one start per arm)")
    calm, full = ({"compared": {"end_to_end_seconds": {"change": change}}} for change in (-0.05, 0.18))
    words = title(THROUGHPUT, {**summary, "levels": {"c8": calm, "c32": full}}, {})
    assert words.endswith("end to end by -5.0% (8 at a time) to +18.0% (32 at a time) (one start per arm)")


def test_experiments_are_named_as_what_they_are_run_by() -> None:
    """One name everywhere: command-line argument, results folder, README row, dashboard uid."""
    for name, experiment in EXPERIMENTS.items():
        assert name == experiment.name
        assert experiment.folder == name.replace("-", "_")
    assert [arm.name for arm in VLLM_METRICS.arms_in_order("ABBA")] == [OFF.name, ON.name, ON.name, OFF.name]
    assert VLLM_METRICS.arms_in_order("AB") == (OFF, ON)
