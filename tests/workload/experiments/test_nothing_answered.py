"""However little a run has brought, it ends with a report: an engine that refuses all is when one is wanted most."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from tests.stubs.load import START, Rows, run_of
from tests.workload.report.test_finish import ON_ENGINES, record
from workload.experiments.ab import ab_experiment
from workload.experiments.arms import parse_arms
from workload.promql.vllm_metrics import COUNTERS
from workload.record.evidence import Evidence
from workload.record.results import Measured, evidence_of
from workload.report.finish import finish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workload.experiment import Experiment

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reusable_tokens")
SCORES = ("answer_em", "answer_f1", "facts_em", "facts_f1", "joint_f1", "digest", "trajectory")
ACCOUNTING = {"scheduled": 2, "sent": 2, "dropped": 0, "ok": 0, "failed": {"connection": 2}, "cancelled": 0}
NO_NUMBER = re.compile(r"\b(nan|inf|None|NaN|Infinity)\b")


def all_answered(_: Rows) -> None:
    """Let both questions be answered."""


def one_answered(rows: Rows) -> None:
    """Ask one question only."""
    del rows.questions[1:]
    for table in (rows.calls, rows.visits, rows.stages):
        table[:] = [row for row in table if row["question"] == 1]


def fail(rows: Rows, questions: slice) -> None:
    """Let questions fail in their calls."""
    for question in rows.questions[questions]:
        question.update({"outcome": "failed", "reason": "connection", "termination": "error", "hops": 0})
        question.update(dict.fromkeys(SCORES))
        for call in (row for row in rows.calls if row["question"] == question["id"]):
            call.update({"outcome": "failed", "reason": "connection", "ttft_seconds": None})
            call.update(dict.fromkeys(TOKENS))


def all_failed(rows: Rows) -> None:
    """Let both questions fail."""
    fail(rows, slice(None))


def one_of_two_failed(rows: Rows) -> None:
    """Let the second question fail."""
    fail(rows, slice(1, None))


def all_refused_before_a_call(rows: Rows) -> None:
    """Let questions fail in no time, before anything was sent."""
    fail(rows, slice(None))
    for question in rows.questions:
        question.update({"duration_seconds": 0.0, "intended_at": START, "started_at": START})
    for table in (rows.calls, rows.visits, rows.stages):
        table.clear()


def answered_in_no_time(rows: Rows) -> None:
    """Let a clock that does not tick time everything."""
    for row in (*rows.questions, *rows.calls, *rows.visits, *rows.stages):
        row.update({"duration_seconds": 0.0, "started_at": START})
        row.update({"intended_at": START} if "intended_at" in row else {})


def no_usage(rows: Rows) -> None:
    """Let the server report no tokens and no first token."""
    for call in rows.calls:
        call.update(dict.fromkeys((*TOKENS, "ttft_seconds")))


def no_usage_after_a_first_token(rows: Rows) -> None:
    """Let the server stream, and report no tokens."""
    for call in rows.calls:
        call.update(dict.fromkeys(TOKENS))


def no_tokens(rows: Rows) -> None:
    """Let the server report zeros only."""
    for call in rows.calls:
        call.update(dict.fromkeys(TOKENS, 0))


def no_retrieval(rows: Rows) -> None:
    """Let every question be answered without a search."""
    rows.stages.clear()


def nothing_asked(rows: Rows) -> None:
    """Ask nothing."""
    for table in vars(rows).values():
        table.clear()


# A picture takes most of the time, even without its pixels; these leave least to draw.
DRAWN = (all_failed, all_refused_before_a_call, no_tokens, nothing_asked)
OUTCOMES = (
    all_answered,
    one_answered,
    all_failed,
    one_of_two_failed,
    all_refused_before_a_call,
    answered_in_no_time,
    no_usage,
    no_usage_after_a_first_token,
    no_tokens,
    no_retrieval,
    nothing_asked,
)
AB = ab_experiment(parse_arms(["original", "append-only", "early:prefetch=last-clue"]))


@pytest.mark.parametrize("reports", [True, False], ids=["engine reports", "engine reports nothing"])
@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.__name__)
@pytest.mark.parametrize("experiment", [*ON_ENGINES, AB], ids=lambda experiment: experiment.name)
@pytest.mark.usefixtures("laid_out")
def test_row_26_every_experiment_ends_with_a_report(
    experiment: Experiment,
    outcome: Callable[[Rows], None],
    reports: bool,
    tmp_path: Path,
) -> None:
    """It is reduced, worded, drawn and bound without a division by zero and without NaN or None in a sentence."""
    rows = Rows()
    rows.ask()
    rows.ask(start=rows.end)
    data = run_of(rows, tmp_path)
    outcome(rows)
    arms = [arm.name for arm in experiment.arms]
    evidence = evidence_of(data)
    record(evidence.bundle.journal, range_of(rows, arms))
    evidence.bundle.start(experiment.name, {})
    reported = {"prefix_caching": False, "max_model_len": 8192, "model_path": None, **data.measured[0].engine}
    reported = reported if reports else dict.fromkeys(reported) | {"model": "stub"}
    measured = [
        Measured(replace(data.measured[0].window, arm=arm, block=block), reported, dict.fromkeys(COUNTERS), ACCOUNTING)
        for block, arm in enumerate(arms)
    ]
    run = Evidence(evidence.client, experiment.name, evidence.bundle, evidence.settings)
    finished = finish(experiment, run, measured, draws=reports and outcome in DRAWN)
    words = [*experiment.verdicts(finished.summary), *chain.from_iterable(experiment.headline(finished.summary))]
    assert [word for word in words if NO_NUMBER.search(word)] == []
    json.dumps(finished.summary, allow_nan=False)
    assert all(path.stat().st_size for path in finished.files)
    assert (finished.bundle / "report.html").read_text().startswith("<!doctype html>")


def range_of(rows: Rows, arms: Sequence[str]) -> Rows:
    """Return the same load in each arm, with row ids of their own."""
    found = Rows()
    for block, arm in enumerate(arms):
        for table, mine in vars(found).items():
            keys = {"questions": ("id",), "calls": ("id", "question")}.get(table, ("question",))
            mine += [
                {**row, "arm": arm, "block": block, **{key: row[key] + 100 * block for key in keys}}
                for row in vars(rows)[table]
            ]
    return found
