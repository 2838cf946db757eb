"""Where the time of one question went: its node visits one after the other, with the stages and calls inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from workload.analysis.levels import load_in_words
from workload.record.results import Row, RunData, group

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOWEST = 3
CALL = "LLM call"
NOT_TOLD = "Time to first token is queue and prefill together; how much each took is not told."


class Part(TypedDict):
    """A stretch of a question, in seconds since it was due; a part with `inside` lies within the visit before it."""

    name: str
    hop: int | None
    start_seconds: float
    seconds: float
    inside: bool
    note: str


class Waterfall(TypedDict):
    """A question and its parts; those that are not `inside` another add up to `seconds`."""

    question: str
    arm: str
    load: str
    seconds: float
    parts: list[Part]


def slowest(data: RunData, most: int = SLOWEST) -> list[Waterfall]:
    """Return the waterfalls of the answered questions that took longest, the longest first."""
    answered = [row for row in data.questions if row["outcome"] == "ok" and row.get("intended_at") is not None]
    ranked = sorted(answered, key=lambda row: -row["duration_seconds"])[:most]
    return waterfalls(data, ranked)


def waterfalls(data: RunData, questions: Sequence[Row]) -> list[Waterfall]:
    """Return the waterfall of each of these questions."""
    visits, calls, stages = (group(rows, "question") for rows in (data.visits, data.calls, data.stages))
    return [
        {
            "question": row["question_id"],
            "arm": row["arm"],
            "load": load_in_words(row["phase"]),
            "seconds": row["duration_seconds"],
            "parts": _parts(row, visits.get(row["id"], []), calls.get(row["id"], []) + stages.get(row["id"], [])),
        }
        for row in questions
    ]


def _parts(question: Row, visits: list[Row], steps: list[Row]) -> list[Part]:
    begin = question["intended_at"]
    parts: list[Part] = []
    reached = begin
    for visit in sorted(visits, key=lambda row: row["started_at"]):
        end = visit["started_at"] + visit["duration_seconds"]
        if end <= reached:
            continue  # a pause within a node
        start = max(visit["started_at"], reached)
        if start > reached:
            parts.append(
                _part("waits to be sent" if not parts else "between nodes", None, reached - begin, start - reached)
            )
        parts.append(_part(visit["node"], visit["hop"], start - begin, end - start))
        inner = [row for row in steps if start <= row["started_at"] < end]
        parts += [_inside(row, begin) for row in sorted(inner, key=lambda row: row["started_at"])]
        reached = end
    if (rest := begin + question["duration_seconds"] - reached) > 0:
        parts.append(_part("after the last node" if visits else "no node", None, reached - begin, rest))
    return parts


def _part(name: str, hop: int | None, start: float, seconds: float) -> Part:
    return {"name": name, "hop": hop, "start_seconds": start, "seconds": seconds, "inside": False, "note": ""}


def _inside(row: Row, begin: float) -> Part:
    """Return a stage of retrieval, or a call with what the client and the engine tell of it."""
    part = _part(row.get("stage", CALL), row["hop"], row["started_at"] - begin, row["duration_seconds"])
    if "stage" in row:
        note = ""
    elif (first := row["ttft_seconds"]) is None:
        note = "no first token"
    else:
        note = f"first token {first:.3f}, decode {part['seconds'] - first:.3f}"
    return {**part, "inside": True, "note": note}
