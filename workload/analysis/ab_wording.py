"""A comparison of arms in words: the closing table, and a sentence for each thing that a reader must know."""

from __future__ import annotations

from typing import Any

from workload.analysis.ab import COMPARED
from workload.analysis.drift import doubts
from workload.analysis.wording import change, interval, number, percent
from workload.statistics.paired import pairing_in_words

# Under this the model answers so badly that a change of F1 says nothing about an option.
MIN_F1 = 0.3


def headline(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of the first arm's medians, then a row of changes for each other arm, the fastest first."""
    first = summary["arms"][summary["first"]]
    units = ("", " s", " s", " s")
    medians = [
        number(first["medians"][name]["median"]) + unit + interval(first["medians"][name]["ci"])
        for name, unit in zip(COMPARED, units, strict=True)
    ]
    rows = [(summary["first"], *medians, "", _quality(summary, summary["first"]))]
    for arm in summary["ranked"]:
        compared, expected = summary["compared"][arm], summary["predicted"][arm]["change"]
        cells = [_with_interval(compared[name]) for name in COMPARED]
        rows.append((arm, *cells, _predicted(expected), _quality(summary, arm)))
    return rows


def _quality(summary: dict[str, Any], arm: str) -> str:
    return number(summary["quality"][arm]["answer_f1"]) + interval(summary["arms"][arm]["answer_f1_ci"])


def _predicted(change: float | None) -> str:
    return "no theory" if change is None else percent(change, signed=True)


def _with_interval(row: dict[str, Any]) -> str:
    return percent(row["change"], signed=True) + interval(row["change_ci"], percent)


def verdicts(summary: dict[str, Any]) -> list[str]:
    """Return one sentence for each arm, then what a reader must know before using the numbers."""
    sentences = [_verdict(summary, arm) for arm in summary["ranked"]]
    sentences += [_of_prefetch(summary, arm) for arm in summary["ranked"] if summary["arms"][arm]["prefetch"]]
    sentences += [
        f"{arm}: engine counters and responses DISAGREE."
        for arm, values in summary["arms"].items()
        if values["cache"]["agree_to_the_token"] is False
    ]
    sentences.append(_of_quality(summary))
    pairs = (summary["compared"][arm]["end_to_end_seconds"]["n"] for arm in summary["ranked"])
    sentences.append(pairing_in_words(min(pairs, default=0)))
    if summary["order"] == "AB":
        sentences.append("AB order: one block an arm, so drift of the machine is confounded with the arm.")
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
    doubted = doubts(compared, predicted["change"], f"{arm}'s", summary["control"][arm])
    return (
        f"{arm} against {summary['first']}: {found}, end to end {change(whole)}{_confounded(summary)}; "
        f"{theory}{doubted}; uncached prefill {change(tokens)} a question."
    )


def _confounded(summary: dict[str, Any]) -> str:
    return " (order-confounded: AB order)" if summary["order"] == "AB" else ""


def _of_prefetch(summary: dict[str, Any], arm: str) -> str:
    found, bound = summary["arms"][arm]["prefetch"], summary["prefetch_of_bound"][arm]
    reached = (
        f"saved {number(bound['saved_seconds'])} s a question, {percent(bound['share'])} of the critical-path bound"
        if bound
        else "there was nothing to save"
    )
    return (
        f"{arm}: {found['used']} of {found['needed']} drafts came true; {reached}; searched "
        f"{number(found['wasted_seconds'])} s in vain."
    )


def _of_quality(summary: dict[str, Any]) -> str:
    first = summary["quality"][summary["first"]]
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
