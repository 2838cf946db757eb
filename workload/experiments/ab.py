"""Any arms against the first: paired by question, on a replayed trajectory, beside what theory allows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from workload.agent.sleep import STEPS
from workload.analysis.ab import COMPARED, diverged, quality
from workload.analysis.cache import witnesses
from workload.analysis.engine_effects import engine_effects
from workload.analysis.paired import compare
from workload.analysis.prediction import predict
from workload.analysis.prefetched import DRAFTED_FROM, bound_by_question, prefetches_of, told
from workload.analysis.wording import interval, number, percent
from workload.charts.ab import draw
from workload.experiment import Arm, Experiment
from workload.kv_cache.bounds import mean_ci

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.results import Row, RunData

# Under this the model answers so badly that a change of F1 says nothing about an option.
MIN_F1 = 0.3
LIMIT, MAX_HOPS, K = 8, 3, 10


def ab_experiment(arms: Sequence[Arm], name: str = "ab", folder: str = "ab") -> Experiment:
    """Return the experiment that compares the arms with the first of them."""
    return Experiment(
        name=name,
        folder=folder,
        title=f"What does each arm change against {arms[0].name}?",
        arms=tuple(arms),
        reduce=partial(reduce, arms),
        draw=draw,
        headline=headline,
        columns=(f"against {arms[0].name}", "uncached prefill\ntokens", "TTFT", "end to end", "predicted", "F1"),
        verdicts=verdicts,
        limit=LIMIT,
        max_hops=MAX_HOPS,
        k=K,
        summary_file=f"{folder}.json",
        keeps_engine=True,
    )


def recording(arm: Arm) -> Experiment:
    """Return the run that records the trajectory which all arms then replay, on the first arm."""
    return Experiment(
        name="trajectory",
        folder="ab",
        title="Which path do the questions take?",
        arms=(Arm("recorded", arm.profile, options=arm.options, engine=arm.engine),),
        reduce=lambda data: {"quality": quality(data, "recorded")},
        draw=lambda _: (),
        headline=lambda summary: [("questions", number(summary["quality"]["questions"]))],
        columns=("", "recorded"),
        verdicts=lambda _: [],
        limit=LIMIT,
        max_hops=MAX_HOPS,
        k=K,
        summary_file="trajectory.json",
    )


def reduce(arms: Sequence[Arm], data: RunData) -> dict[str, Any]:
    """Return every arm's values and, of each but the first, its paired changes and the one that theory allows."""
    first, *others = arms
    compared: dict[str, dict[str, Any]] = {}
    predicted: dict[str, dict[str, Any]] = {}
    for arm in others:
        rows = {
            name: compare(data.by_question(first.name, value), data.by_question(arm.name, value))
            for name, value in COMPARED.items()
        }
        compared[arm.name] = {name: row.as_dict() for name, row in rows.items()}
        drafts = _drafts(data, arm.name)
        source = arm.options.get("prefetch", "off")
        saved = bound_by_question(data, first.name, drafts, source) if drafts and source in DRAFTED_FROM else None
        expected = predict(data, first.name, arm.name, differing(first, arm), saved)
        predicted[arm.name] = expected.beside(rows["end_to_end_seconds"].change_ci)
    return {
        "first": first.name,
        "arms": {arm.name: _values(data, arm) for arm in arms},
        "compared": compared,
        "predicted": predicted,
        "f1_change": {arm.name: _f1_change(data, first.name, arm.name) for arm in others},
        "ranked": sorted(compared, key=lambda arm: _change(compared[arm])),
        "diverged_questions": diverged(data),
    }


def differing(first: Arm, other: Arm) -> frozenset[str]:
    """Return the names of the agent's options and of the profile's fields in which two arms differ."""
    pairs = ((first.options, other.options), (vars(first.vllm_profile), vars(other.vllm_profile)))
    return frozenset(key for a, b in pairs for key in a.keys() | b.keys() if key != "name" and a.get(key) != b.get(key))


def _values(data: RunData, arm: Arm) -> dict[str, Any]:
    return {
        "profile": arm.profile,
        "options": dict(arm.options),
        "engine": dict(arm.engine),
        "medians": {name: _median(data, arm.name, name) for name in COMPARED},
        "cache": witnesses(data, arm.name),
        "quality": quality(data, arm.name),
        "answer_f1_ci": mean_ci(data.by_question(arm.name, _f1).values()),
        "prefetch": told(_drafts(data, arm.name)),
        "engine_effects": engine_effects(data, arm.name),
        "sleep_seconds": _sleep(data, arm.name),
    }


def _sleep(data: RunData, arm: str) -> dict[str, float] | None:
    """Return the seconds that the engine took to fall asleep and to wake up; None where it never did."""
    rows = [row for row in data.visits if row["arm"] == arm and row["node"] in STEPS]
    return (
        {step: sum(row["duration_seconds"] for row in rows if row["node"] == step) for step in STEPS} if rows else None
    )


def _drafts(data: RunData, arm: str) -> list[Row]:
    return prefetches_of(data.evidence.bundle.journal, data, arm) if data.evidence else []


def _median(data: RunData, arm: str, name: str) -> dict[str, Any]:
    values = data.by_question(arm, COMPARED[name])
    alone = compare(values, values)
    return {"n": alone.n, "median": alone.a, "ci": alone.a_ci}


def _f1(question: Row, _: list[Row]) -> float:
    return float(question["answer_f1"])


def _f1_change(data: RunData, first: str, other: str) -> dict[str, Any]:
    """Return the mean paired difference of answer F1, a number from -1 to 1, with its 95 % interval."""
    before, after = (data.by_question(arm, _f1) for arm in (first, other))
    differences = [after[question] - before[question] for question in sorted(before.keys() & after.keys())]
    mean = sum(differences) / len(differences) if differences else None
    return {"n": len(differences), "mean": mean, "ci": mean_ci(differences)}


def _change(compared: dict[str, Any]) -> float:
    change = compared["end_to_end_seconds"]["change"]
    return float("inf") if change is None else change


def headline(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of the first arm's medians, then a row of changes for each other arm, the fastest first."""
    first = summary["arms"][summary["first"]]
    units = ("", " s", " s")
    medians = [
        number(first["medians"][name]["median"]) + unit + interval(first["medians"][name]["ci"])
        for name, unit in zip(COMPARED, units, strict=True)
    ]
    rows = [(summary["first"], *medians, "", _quality(first))]
    for arm in summary["ranked"]:
        compared, expected = summary["compared"][arm], summary["predicted"][arm]["change"]
        cells = [_with_interval(compared[name]) for name in COMPARED]
        rows.append((arm, *cells, _predicted(expected), _quality(summary["arms"][arm])))
    return rows


def _quality(values: dict[str, Any]) -> str:
    return number(values["quality"]["answer_f1"]) + interval(values["answer_f1_ci"])


def _predicted(change: float | None) -> str:
    return "no theory" if change is None else percent(change, signed=True)


def _with_interval(row: dict[str, Any]) -> str:
    return percent(row["change"], signed=True) + interval(row["change_ci"], percent)


def verdicts(summary: dict[str, Any]) -> list[str]:
    """Return one sentence for each arm, then what a reader must know before using the numbers."""
    sentences = [_verdict(summary, arm) for arm in summary["ranked"]]
    sentences += [
        f"{arm}: engine counters and responses DISAGREE."
        for arm, values in summary["arms"].items()
        if values["cache"]["agree_to_the_token"] is False
    ]
    sentences.append(_of_quality(summary))
    if summary["order"] == "AB":
        sentences.append("Order AB: one block an arm, so drift of the machine is confounded with the arm.")
    failed = sum(sum(block["failed"].values()) for block in summary["accounting"])
    sentences.append(f"{sum(block['sent'] for block in summary['accounting'])} questions sent, {failed} failed.")
    return sentences


def _verdict(summary: dict[str, Any], arm: str) -> str:
    compared, predicted = summary["compared"][arm], summary["predicted"][arm]
    whole, tokens = compared["end_to_end_seconds"], compared["uncached_prefill_tokens"]
    bounds = whole["change_ci"]
    if whole["change"] is None:
        return f"{arm}: no question was answered in both arms."
    if bounds is None:
        found = f"no interval, for {whole['n']} questions are too few for one"
    elif bounds[0] <= 0 <= bounds[1]:
        found = "no measurable change"
    else:
        found = "faster" if whole["change"] < 0 else "slower"
    theory = predicted["why_not"] or f"theory allows {percent(predicted['change'], signed=True)}"
    if predicted["inside_measured_interval"] is not None:
        theory += ", inside the interval" if predicted["inside_measured_interval"] else ", OUTSIDE the interval"
    return (
        f"{arm} against {summary['first']}: {found}, end to end {_on_a_line(whole)}; {theory}; "
        f"uncached prefill {_on_a_line(tokens)} a question."
    )


def _on_a_line(row: dict[str, Any]) -> str:
    return _with_interval(row).replace("\n", " ")


def _of_quality(summary: dict[str, Any]) -> str:
    first = summary["arms"][summary["first"]]["quality"]
    if summary["replay_of"]:
        return "The answers are the record's in every arm, so EM and F1 say nothing about the arms."
    if first["answer_f1"] is None or first["answer_f1"] < MIN_F1:
        return (
            f"F1 of {summary['first']} is {number(first['answer_f1'])} (n={first['questions']}): "
            f"under {MIN_F1}, so nothing is claimed about quality."
        )
    changes = (
        f"{arm} {number(row['mean'])}{interval(row['ci'])}".replace("\n", " ")
        for arm, row in summary["f1_change"].items()
    )
    share = percent(summary["diverged_questions"])
    return f"Change of F1: {'; '.join(changes)}. {share} of the questions took another path in another block."
