"""What arms are compared by: values per question, quality, equal work, and the change that theory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from workload.analysis.costs import steps
from workload.analysis.wording import Bookkeeping, number
from workload.promql.vllm_metrics import PREFILL_SECONDS
from workload.record.results import Row, RunData, total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workload.statistics.paired import Comparison

Quantity = Literal[
    "uncached_prefill_tokens", "time_to_first_token_seconds", "end_to_end_seconds", "decode_seconds_per_token"
]
CONTROL: Quantity = "decode_seconds_per_token"


class Quality(TypedDict):
    """Mean HotpotQA metrics over the answered questions of an arm that have a gold answer; None without one.

    `unscored` questions have no gold answer: they come from a blind test set or are unanswerable.
    """

    questions: int
    unscored: int
    answer_em: float | None
    answer_f1: float | None
    facts_em: float | None
    facts_f1: float | None
    joint_f1: float | None


class Amdahl(TypedDict):
    """The prefill share of a question's time in the first arm, and the end-to-end change that it allows."""

    prefill_share_of_question: float | None
    predicted_end_to_end_change: float | None


def uncached_tokens(_: Row, calls: list[Row]) -> float | None:
    """Return the prompt tokens of a question that the engine had to compute."""
    prompt, cached = total(calls, "prompt_tokens"), total(calls, "cached_tokens")
    return None if prompt is None or cached is None else prompt - cached


def time_to_first_token(_: Row, calls: list[Row]) -> float | None:
    """Return the mean time to first token of a question's calls, in seconds."""
    seconds = total(calls, "ttft_seconds")
    return None if seconds is None or not calls else seconds / len(calls)


def decode_time(_: Row, calls: list[Row]) -> float | None:
    """Return the decode time per token of a question, in seconds; the first token of each call does not count.

    No cache saves any of it, so it is the control of a comparison: if the same tokens took a different time, the
    machine had changed. With several questions at a time it includes the work done for others; a longer context always
    adds to it.
    """
    timed = [call for call in calls if call["ttft_seconds"] is not None]
    number = sum(map(steps, timed))
    return (
        sum(call["duration_seconds"] - call["ttft_seconds"] for call in timed if steps(call)) / number
        if number
        else None
    )


def end_to_end(question: Row, _: list[Row]) -> float | None:
    """Return a question's duration in seconds."""
    return float(question["duration_seconds"])


COMPARED: Mapping[Quantity, Callable[[Row, list[Row]], float | None]] = {
    "uncached_prefill_tokens": uncached_tokens,
    "time_to_first_token_seconds": time_to_first_token,
    "end_to_end_seconds": end_to_end,
    CONTROL: decode_time,
}
Compared = dict[Quantity, "Comparison"]


def amdahl(data: RunData, arm: str, change_of_prefill: float | None) -> Amdahl:
    """Return the change that Amdahl's law allows: time falls at most by (prefill share) x (share of prefill saved)."""
    prefill = data.counter(arm, PREFILL_SECONDS)
    answered = (row for row in data.questions if row["arm"] == arm and row["outcome"] == "ok")
    # The counter covers closed windows only.
    seconds = sum(row["duration_seconds"] for row in answered if row["is_windowed"])
    share = prefill / seconds if prefill is not None and seconds else None
    ceiling = share * change_of_prefill if share is not None and change_of_prefill is not None else None
    return {"prefill_share_of_question": share, "predicted_end_to_end_change": ceiling}


def quality(data: RunData, arm: str) -> Quality:
    """Return how well an arm answered; see `Quality`."""
    rows = [row for row in data.questions if row["arm"] == arm and row["outcome"] == "ok"]

    def mean(metric: str) -> float | None:
        known = [row[metric] for row in rows if row[metric] is not None]
        return sum(known) / len(known) if known else None

    return {
        "questions": len(rows),
        "unscored": sum(row["answer_em"] is None for row in rows),
        "answer_em": mean("answer_em"),
        "answer_f1": mean("answer_f1"),
        "facts_em": mean("facts_em"),
        "facts_f1": mean("facts_f1"),
        "joint_f1": mean("joint_f1"),
    }


def quality_in_words(by_arm: Mapping[str, Quality]) -> str:
    """Return a sentence on how well each arm answered, because speed alone is not success."""
    scores = (
        f"{arm}: EM {number(found['answer_em'])}, F1 {number(found['answer_f1'])}, "
        f"supporting-fact F1 {number(found['facts_f1'])} (n={found['questions'] - found['unscored']})"
        for arm, found in by_arm.items()
    )
    unscored = max((found["unscored"] for found in by_arm.values()), default=0)
    left_out = f" {unscored} questions have no gold answer and are not scored." if unscored else ""
    return Bookkeeping(f"Answers of {'; '.join(scores)}.{left_out}")


def diverged(data: RunData) -> float | None:
    """Return the share of questions with more than one trajectory or answer: there the arms did unequal work."""
    seen: dict[str, set[str]] = {}
    for row in data.questions:
        if row["outcome"] == "ok":
            seen.setdefault(row["question_id"], set()).add(row["digest"])
    return sum(len(kinds) > 1 for kinds in seen.values()) / len(seen) if seen else None
