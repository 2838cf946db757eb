"""What two arms are compared by: values of a question, quality, equal work, and the gain that theory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.analysis.costs import steps
from workload.analysis.wording import number
from workload.promql.vllm_metrics import PREFILL_SECONDS
from workload.record.results import total

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from workload.record.results import Row, RunData

CONTROL = "decode_seconds_per_token"
QUALITY = ("answer_em", "answer_f1", "facts_em", "facts_f1", "joint_f1")


def uncached_tokens(_: Row, calls: list[Row]) -> float | None:
    """Return the prompt tokens of a question that the engine had to compute."""
    prompt, cached = total(calls, "prompt_tokens"), total(calls, "cached_tokens")
    return None if prompt is None or cached is None else prompt - cached


def time_to_first_token(_: Row, calls: list[Row]) -> float | None:
    """Return the mean time to the first token of a question's calls, in seconds."""
    seconds = total(calls, "ttft_seconds")
    return None if seconds is None or not calls else seconds / len(calls)


def decode_time(_: Row, calls: list[Row]) -> float | None:
    """Return the time of a question's further tokens, each after the first of its call, in seconds a token.

    No cache saves any of it, so it is the control of a comparison: where the same tokens took another time, the machine
    was another. With several questions at a time what others compute meanwhile is in it; a longer context always is.
    """
    told = [call for call in calls if call["ttft_seconds"] is not None]
    number = sum(map(steps, told))
    return (
        sum(call["duration_seconds"] - call["ttft_seconds"] for call in told if steps(call)) / number
        if number
        else None
    )


def end_to_end(question: Row, _: list[Row]) -> float | None:
    """Return a question's duration in seconds."""
    return float(question["duration_seconds"])


COMPARED = {
    "uncached_prefill_tokens": uncached_tokens,
    "time_to_first_token_seconds": time_to_first_token,
    "end_to_end_seconds": end_to_end,
    CONTROL: decode_time,
}


def amdahl(data: RunData, arm: str, change_of_prefill: float | None) -> dict[str, float | None]:
    """Return the share of a question's time that is prefill in the arm compared with, and the change it allows.

    Amdahl: time falls at most by (prefill share) x (share of prefill saved).
    """
    prefill = data.counter(arm, PREFILL_SECONDS)
    answered = (row for row in data.questions if row["arm"] == arm and row["outcome"] == "ok")
    # the counter covers closed windows only
    seconds = sum(row["duration_seconds"] for row in answered if row["is_windowed"])
    share = prefill / seconds if prefill is not None and seconds else None
    ceiling = share * change_of_prefill if share is not None and change_of_prefill is not None else None
    return {"prefill_share_of_question": share, "predicted_end_to_end_change": ceiling}


def quality(data: RunData, arm: str) -> dict[str, float | int | None]:
    """Return the mean of HotpotQA's metrics over the answered questions of an arm that have a gold, and their number.

    `unscored` are those without a gold answer: of a blind test set, or unanswerable.
    """
    rows = [row for row in data.questions if row["arm"] == arm and row["outcome"] == "ok"]
    means = {}
    for name in QUALITY:
        known = [row[name] for row in rows if row[name] is not None]
        means[name] = sum(known) / len(known) if known else None
    return {"questions": len(rows), "unscored": sum(row["answer_em"] is None for row in rows), **means}


def quality_in_words(by_arm: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence on how well each arm answered, so that nothing fast can pass for good."""
    told = (
        f"{arm}: EM {number(found['answer_em'])}, F1 {number(found['answer_f1'])}, "
        f"supporting-fact F1 {number(found['facts_f1'])} (n={found['questions'] - found['unscored']})"
        for arm, found in by_arm.items()
    )
    return f"Answers of {'; '.join(told)}.{_unscored(by_arm)}"


def _unscored(by_arm: Mapping[str, Mapping[str, Any]]) -> str:
    count = max((found["unscored"] for found in by_arm.values()), default=0)
    return f" {count} questions have no gold answer and are not scored." if count else ""


def diverged(data: RunData) -> float | None:
    """Return the share of questions with more than one trajectory or answer: there the arms did unequal work."""
    seen: dict[str, set[str]] = {}
    for row in data.questions:
        if row["outcome"] == "ok":
            seen.setdefault(row["question_id"], set()).add(row["digest"])
    return sum(len(kinds) > 1 for kinds in seen.values()) / len(seen) if seen else None
