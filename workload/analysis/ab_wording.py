"""A comparison of arms in words: the closing table and the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.analysis.ab import COMPARED
from workload.analysis.drift import doubts
from workload.analysis.wording import Bookkeeping, Caveat, change, interval, number, percent, sent
from workload.statistics.paired import Comparison, pairing_in_words

if TYPE_CHECKING:
    from workload.analysis.summaries import AbSummary

# Below this the model answers so badly that a change of F1 says nothing about an option.
MIN_F1 = 0.3


def headline(summary: AbSummary) -> list[tuple[str, ...]]:
    """Return a row with the first arm's medians, then a row with the changes of each other arm, the fastest first."""
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


def _quality(summary: AbSummary, arm: str) -> str:
    return number(summary["quality"][arm]["answer_f1"]) + interval(summary["arms"][arm]["answer_f1_ci"])


def _predicted(change: float | None) -> str:
    return "no theory" if change is None else percent(change, signed=True)


def _with_interval(row: Comparison) -> str:
    return percent(row["change"], signed=True) + interval(row["change_ci"], percent)


def verdicts(summary: AbSummary) -> list[str]:
    """Return one sentence per arm, then the caveats for using the numbers."""
    sentences = [_verdict(summary, arm) for arm in summary["ranked"]]
    sentences += [_of_prefetch(summary, arm) for arm in summary["ranked"] if summary["arms"][arm]["prefetch"]]
    sentences += [
        Caveat(f"{arm}: engine counters and responses DISAGREE.")
        for arm, values in summary["arms"].items()
        if values["cache"]["agree_to_the_token"] is False
    ]
    sentences.append(Bookkeeping(_of_quality(summary)))
    pairs = (summary["compared"][arm]["end_to_end_seconds"]["n"] for arm in summary["ranked"])
    sentences.append(Bookkeeping(pairing_in_words(min(pairs, default=0))))
    if summary["order"] == "AB":
        sentences.append(Caveat("AB order: one block per arm, so drift of the machine is confounded with the arm."))
    return [*sentences, Bookkeeping(sent(summary["accounting"]) + ".")]


def _verdict(summary: AbSummary, arm: str) -> str:
    compared, predicted = summary["compared"][arm], summary["predicted"][arm]
    whole, tokens = compared["end_to_end_seconds"], compared["uncached_prefill_tokens"]
    bounds = whole["change_ci"]
    if whole["change"] is None:
        return f"{arm}: no question was answered in both arms."
    if bounds is None:
        found = f"no interval, because {whole['n']} questions are too few"
    elif bounds[0] <= 0 <= bounds[1]:
        found = "no measurable change"
    else:
        found = "faster" if whole["change"] < 0 else "slower"
    theory = predicted["why_not"] or f"theory allows {percent(predicted['change'], signed=True)}"
    if predicted["inside_measured_interval"] is not None:
        theory += ", inside the interval" if predicted["inside_measured_interval"] else ", OUTSIDE the interval"
    doubted = doubts(compared, predicted["change"], arm, summary["control"][arm])
    confounded = " (order-confounded: AB order)" if summary["order"] == "AB" else ""
    return (
        f"{arm} against {summary['first']}: {found}, end to end {change(whole)}{confounded}; "
        f"{theory}{doubted}; uncached prefill {change(tokens)} per question."
    )


def _of_prefetch(summary: AbSummary, arm: str) -> str:
    found, bound = summary["arms"][arm]["prefetch"], summary["prefetch_of_bound"][arm]
    if found is None:
        return f"{arm}: nothing was drafted."
    reached = (
        f"saved {number(bound['saved_seconds'])} s per question, {percent(bound['share'])} of the critical-path bound"
        if bound
        else "there was nothing to save"
    )
    return (
        f"{arm}: prefetch used {found['used']} of {found['needed']} drafts; {reached}; "
        f"{number(found['wasted_seconds'])} s of searches were wasted."
    )


def _of_quality(summary: AbSummary) -> str:
    first = summary["quality"][summary["first"]]
    if summary["replay_of"]:
        return "Every arm replays the recorded answers, so EM and F1 say nothing about the arms."
    if first["answer_f1"] is None or first["answer_f1"] < MIN_F1:
        return (
            f"F1 of {summary['first']} is {number(first['answer_f1'])} (n={first['questions']}): "
            f"below {MIN_F1}, so no claim is made about quality."
        )
    changes = (
        f"{arm} {number(row['mean'])}{interval(row['ci'])}".replace("\n", " ")
        for arm, row in summary["f1_change"].items()
    )
    share = percent(summary["diverged_questions"])
    return f"Change of F1: {'; '.join(changes)}. {share} of the questions took another path in another block."
