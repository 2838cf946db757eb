"""How often a draft query finds the documents finally retrieved, measured after the load, and the bound on prefetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from workload.agent.draft import same_query
from workload.analysis.prefetch_bound import DraftAccuracy, Hop, PrefetchBound, draft_accuracy, prefetch_bound
from workload.analysis.prefetch_drafts import SOURCES, DraftQuery, Need, Place, Source, drafts_of, needs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.analysis.spans import MeasuredLoad
    from workload.corpus.document import Retrieve
    from workload.record.evidence import Evidence

NOT_MEASURED = "not measured: the run was not recorded with --record-prompts"


class DraftSource(TypedDict):
    """One source of drafts; `accuracy` is the reason, and `bound` None, if it was not measured.

    `ceiling_seconds` is the bound if every draft were right. A prefetch can use only drafts of the `same_text`.
    """

    hops_with_a_draft: int
    slack_seconds_median: float | None
    ceiling_seconds: float
    accuracy: DraftAccuracy | str
    bound: dict[Literal["low", "measured", "high"], PrefetchBound] | None
    same_text: NotRequired[dict[Literal["hops", "right"], int]]
    documents_shared_mean: NotRequired[float]


class MeasuredDrafts(TypedDict):
    """What prefetch could save in a load; `repeatable` is whether final queries find the same documents again."""

    hops: int
    retrieval_seconds: float
    waste_of_a_wrong_draft: str
    repeatable: bool | None
    sources: dict[Source, DraftSource]


def measure_drafts(evidence: Evidence, load: MeasuredLoad, *, shares_cpu: bool) -> MeasuredDrafts:
    """Return for each source of drafts its accuracy, its slack and the bound on what prefetch saves, in seconds.

    `ceiling_seconds` is the bound if every draft were right and none wasted anything, so it assumes no P. The bound
    proper is None if P was not measured.

    Args:
        evidence: the run's evidence; it repeats the queries.
        load: the load.
        shares_cpu: whether a wasted retrieval takes CPU time from the engine; then each costs its own duration.
    """
    needs = needs_of(load.questions, load.stages)
    texts = evidence.texts
    drafts = drafts_of(load.calls, texts)
    serial = sum(row["duration_seconds"] for row in load.questions if row["outcome"] == "ok")
    found = _Lookup(evidence.retrieve) if evidence.retrieve and texts else None
    sources = {
        source: _source(needs, [draft for draft in drafts if draft.source == source], serial, found, shares_cpu)
        for source in SOURCES
    }
    return {
        "hops": len(needs),
        "retrieval_seconds": sum(need.seconds for need in needs),
        "waste_of_a_wrong_draft": "its retrieval's length" if shares_cpu else "none: retrieval has the CPU to itself",
        "repeatable": found.is_repeatable([need.query for need in needs if need.query]) if found else None,
        "sources": sources,
    }


class _Lookup:
    """Retrieves each query once."""

    def __init__(self, retrieve: Retrieve) -> None:
        self._retrieve = retrieve
        self._known: dict[str, frozenset[str]] = {}

    def __call__(self, query: str) -> frozenset[str]:
        if query not in self._known:
            self._known[query] = self._retrieve(query)
        return self._known[query]

    def is_repeatable(self, queries: Sequence[str]) -> bool:
        """Return whether the final queries find the same documents again; otherwise the accuracy would be noise."""
        return all(self._retrieve(query) == self(query) for query in queries)


def _source(
    needs: Sequence[Need], drafts: Sequence[DraftQuery], serial: float, found: _Lookup | None, shares_cpu: bool
) -> DraftSource:
    by_place: dict[Place, DraftQuery] = {draft.place: draft for draft in drafts}
    pairs = [(need, by_place[need.place]) for need in needs if need.place in by_place]
    slacks = [need.needed_at - draft.at for need, draft in pairs]
    result: DraftSource = {
        "hops_with_a_draft": len(pairs),
        "slack_seconds_median": sorted(slacks)[len(slacks) // 2] if slacks else None,
        "ceiling_seconds": prefetch_bound(_hops(needs, by_place, 0.0), 1.0, serial)["seconds"],
        "accuracy": NOT_MEASURED,
        "bound": None,
    }
    texts = [(draft.query, need.query) for need, draft in pairs if draft.query and need.query]
    if texts:
        # that another text finds the same documents is known only afterwards
        result["same_text"] = {"hops": len(texts), "right": sum(same_query(*each) for each in texts)}
    documents = [(found(draft), found(query)) for draft, query in texts if found]
    if not documents:
        return result if found is None else {**result, "accuracy": "not measured: no hop had such a draft"}
    accuracy = draft_accuracy(documents)
    shared = [len(draft & final) / len(final) if final else 1.0 for draft, final in documents]

    def bound(right: float) -> PrefetchBound:
        return prefetch_bound(_hops(needs, by_place, 1 - right if shares_cpu else 0.0), right, serial)

    low, high = map(bound, accuracy["ci"])
    return {
        **result,
        "accuracy": accuracy,
        "documents_shared_mean": sum(shared) / len(shared),
        "bound": {"low": low, "measured": bound(accuracy["share"]), "high": high},
    }


def _hops(needs: Sequence[Need], drafts: dict[Place, DraftQuery], wrong: float) -> list[Hop]:
    """Return the hops with their drafts; `wrong` is the mean share of a retrieval that a draft costs other work."""
    return [
        Hop(need.seconds, need.needed_at, drafts[need.place].at if need.place in drafts else None, need.seconds * wrong)
        for need in needs
    ]
