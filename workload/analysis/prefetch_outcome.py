"""The time that prefetch saved in an arm, and its bound by the critical path of the arm without it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, TypedDict

from workload.analysis.ab import end_to_end
from workload.analysis.prefetch_bound import Hop, prefetch_bound
from workload.analysis.prefetch_drafts import Source, drafts_of, needs_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.record.results import Row, RunData

# The source of a draft for the first query (True) and for later ones; planted drafts arrive when a clue would.
DRAFTED_FROM: Mapping[str, Mapping[bool, Source | None]] = {
    "question": {True: "question", False: None},
    "last-clue": {True: "question", False: "last clue"},
    "missing-fact": {True: "question", False: "missing fact"},
    "planted": {True: "question", False: "last clue"},
}


class DraftOutcomes(TypedDict):
    """The drafts of an arm: how many were needed and used, the seconds of retrieval they hid, and those they wasted."""

    drafts: int
    needed: int
    used: int
    accuracy: float | None
    hidden_seconds: float
    wasted_seconds: float


class ShareOfBound(TypedDict):
    """The seconds per question that prefetch saved, the bound, and the ratio of their sums."""

    saved_seconds: float
    bound_seconds: float
    share: float


def draft_outcomes(rows: Sequence[Row]) -> DraftOutcomes | None:
    """Return the outcomes of an arm's drafts; None without a draft."""
    if not rows:
        return None
    used = [row for row in rows if row["outcome"] == "used"]
    needed = [row for row in rows if row["outcome"] != "unneeded"]
    return {
        "drafts": len(rows),
        "needed": len(needed),
        "used": len(used),
        "accuracy": len(used) / len(needed) if needed else None,
        "hidden_seconds": sum(row["duration_seconds"] - row["waited_seconds"] for row in used),
        "wasted_seconds": sum(row["duration_seconds"] for row in rows if row["outcome"] != "used"),
    }


def bound_by_question(data: RunData, first: str, rows: Sequence[Row], source: str) -> dict[str, float]:
    """Return the most seconds that the used drafts could save, by question id.

    Args:
        data: the run.
        first: the arm without prefetch; its retrievals and slacks are used, averaged over its blocks.
        rows: the drafts of the arm with prefetch; the share of a hop's drafts used is the probability of a right one.
        source: the drafts' source, a key of `DRAFTED_FROM`.
    """
    ended: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for row in rows:
        if row["outcome"] != "unneeded":
            ended[row["question_id"], row["hop"]].append(row["outcome"] == "used")
    asked = [row for row in data.questions if row["arm"] == first and row["outcome"] == "ok"]
    drafts, origin = drafts_of(data.calls_of(first), {}), DRAFTED_FROM[source]
    known = {draft.place: draft.at for draft in drafts if draft.source == origin[draft.place[1] == 1]}
    needs = needs_of(asked, [row for row in data.stages if row["arm"] == first])
    ids = {row["id"]: row["question_id"] for row in asked}
    blocks = Counter(ids.values())
    saved: dict[str, float] = dict.fromkeys(ids.values(), 0.0)
    for need in needs:
        question_id, hop = ids[need.place[0]], need.place[1]
        outcomes = ended.get((question_id, hop))
        if outcomes:
            one = Hop(need.seconds, need.needed_at, known.get(need.place))
            right = sum(outcomes) / len(outcomes)
            saved[question_id] += prefetch_bound([one], right, float("inf"))["seconds"] / blocks[question_id]
    return saved


def share_of_bound(data: RunData, first: str, other: str, allowed: Mapping[str, float]) -> ShareOfBound | None:
    """Return the share of the bound that prefetch reached; None if there was nothing to save."""
    before, after = (data.by_question(arm, end_to_end) for arm in (first, other))
    shared = before.keys() & after.keys() & allowed.keys()
    bound = sum(allowed[question] for question in shared)
    if not bound:
        return None
    saved = sum(before[question] - after[question] for question in shared)
    return {"saved_seconds": saved / len(shared), "bound_seconds": bound / len(shared), "share": saved / bound}
