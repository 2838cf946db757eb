"""Any arms against the first: paired by question, on a replayed trajectory, next to what theory allows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.agent.sleep import STEPS
from workload.analysis.ab import COMPARED, Compared, Quantity, diverged, quality
from workload.analysis.ab_wording import headline, verdicts
from workload.analysis.cache import hit_rates
from workload.analysis.drift import control_of
from workload.analysis.engine_effects import engine_effects
from workload.analysis.prediction import Prediction, predict
from workload.analysis.prefetch_outcome import DRAFTED_FROM, bound_by_question, draft_outcomes, share_of_bound
from workload.analysis.wording import number
from workload.charts.ab import draw
from workload.experiment import Arm, Experiment
from workload.statistics.paired import compare, mean_ci, median, median_ci

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.analysis.prefetch_outcome import ShareOfBound
    from workload.analysis.summaries import AbSummary, ArmValues, MeanChange, Median
    from workload.record.results import Row, RunData

LIMIT = 8


def ab_experiment(arms: Sequence[Arm], name: str = "ab", folder: str = "ab") -> Experiment[AbSummary]:
    """Return the experiment that compares the arms with the first of them."""
    return Experiment(
        name=name,
        folder=folder,
        title=f"What does each arm change against {arms[0].name}?",
        arms=tuple(arms),
        reduce=partial(reduce, arms),
        draw=draw,
        headline=headline,
        columns=(
            f"paired change\nagainst {arms[0].name}",
            "uncached prefill\ntokens",
            "TTFT",
            "end to end",
            "control: decode\ntime per token",
            "predicted",
            "F1",
        ),
        verdicts=verdicts,
        limit=LIMIT,
        summary_file=f"{folder}.json",
        keeps_engine=True,
    )


def recording(arm: Arm) -> Experiment[Any]:
    """Return the run of the first arm that records the trajectory which all arms then replay."""
    return Experiment(
        name="trajectory",
        folder="ab",
        title="Which path do the questions take?",
        arms=(Arm("recorded", arm.profile, options=arm.options, engine=arm.engine),),
        reduce=lambda data: {"quality": {"recorded": quality(data, "recorded")}},
        draw=lambda _: (),
        headline=lambda summary: [("questions", number(summary["quality"]["recorded"]["questions"]))],
        columns=("", "recorded"),
        verdicts=lambda _: [],
        limit=LIMIT,
        summary_file="trajectory.json",
    )


def reduce(arms: Sequence[Arm], data: RunData) -> AbSummary:
    """Return every arm's values and, for each arm but the first, its paired changes and the predicted change."""
    first, *others = arms
    compared: dict[str, Compared] = {}
    predicted: dict[str, Prediction] = {}
    of_bound: dict[str, ShareOfBound | None] = {}
    controls: dict[str, str | None] = {}
    for arm in others:
        rows: Compared = {
            name: compare(data.by_question(first.name, value), data.by_question(arm.name, value))
            for name, value in COMPARED.items()
        }
        compared[arm.name] = rows
        drafts, source = _drafts(data, arm.name), arm.options.get("prefetch", "off")
        allowed = bound_by_question(data, first.name, drafts, source) if drafts and source in DRAFTED_FROM else {}
        of_bound[arm.name] = share_of_bound(data, first.name, arm.name, allowed)
        different, measured = differing(first, arm), rows["end_to_end_seconds"]["change_ci"]
        controls[arm.name] = control_of(different, data.points)
        predicted[arm.name] = predict(data, first.name, arm.name, different, retrieval_saved=allowed, measured=measured)
    return {
        "first": first.name,
        "arms": {arm.name: _values(data, arm) for arm in arms},
        "quality": {arm.name: quality(data, arm.name) for arm in arms},
        "compared": compared,
        "predicted": predicted,
        "control": controls,
        "prefetch_of_bound": of_bound,
        "f1_change": {arm.name: _f1_change(data, first.name, arm.name) for arm in others},
        "ranked": sorted(compared, key=lambda arm: _change(compared[arm])),
        "diverged_questions": diverged(data),
    }


def differing(first: Arm, other: Arm) -> frozenset[str]:
    """Return the names of the agent's options and of the profile's fields in which two arms differ."""
    pairs = ((first.options, other.options), (vars(first.vllm_profile), vars(other.vllm_profile)))
    return frozenset(key for a, b in pairs for key in a.keys() | b.keys() if key != "name" and a.get(key) != b.get(key))


def _values(data: RunData, arm: Arm) -> ArmValues:
    return {
        "profile": arm.profile,
        "options": dict(arm.options),
        "engine": dict(arm.engine),
        "medians": {name: _median(data, arm.name, name) for name in COMPARED},
        "cache": hit_rates(data, arm.name),
        "answer_f1_ci": mean_ci(data.by_question(arm.name, _f1).values(), (0, 1)),
        "prefetch": draft_outcomes(_drafts(data, arm.name)),
        "engine_effects": engine_effects(data, arm.name),
        "sleep_seconds": _sleep(data, arm.name),
    }


def _sleep(data: RunData, arm: str) -> dict[str, float] | None:
    """Return the seconds that the engine took to fall asleep and to wake up; None where it never slept."""
    rows = [row for row in data.visits if row["arm"] == arm and row["node"] in STEPS]
    return (
        {step: sum(row["duration_seconds"] for row in rows if row["node"] == step) for step in STEPS} if rows else None
    )


def _drafts(data: RunData, arm: str) -> list[Row]:
    return [row for row in data.prefetches if row["arm"] == arm]


def _median(data: RunData, arm: str, name: Quantity) -> Median:
    values = np.array(list(data.by_question(arm, COMPARED[name]).values()), dtype=np.float64)
    return {"n": len(values), "median": median(values), "ci": median_ci(values)}


def _f1(question: Row, _: list[Row]) -> float | None:
    f1: float | None = question["answer_f1"]
    return f1


def _f1_change(data: RunData, first: str, other: str) -> MeanChange:
    """Return the mean paired difference of answer F1, from -1 to 1, with its 95 % interval."""
    before, after = (data.by_question(arm, _f1) for arm in (first, other))
    differences = [after[question] - before[question] for question in sorted(before.keys() & after.keys())]
    mean = sum(differences) / len(differences) if differences else None
    return {"n": len(differences), "mean": mean, "ci": mean_ci(differences, (-1, 1))}


def _change(compared: Compared) -> float:
    change = compared["end_to_end_seconds"]["change"]
    return float("inf") if change is None else change
