"""The bound on what speculative retrieval saves: the next hop's query exists only after `decide`, so it is guessed.

If its draft is right, a hop saves at most the retrieval that fits between the earliest draft of its query and the
moment its documents are needed; it pays for wasted retrievals:

    bound = min(retrieval time, slack) x P(draft right) - waste
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from scipy.stats import binomtest

from workload.statistics.paired import LEVEL, Interval

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True)
class Hop:
    """One hop's retrieval: how long it took, when a draft of its query first existed, and when it was needed.

    Seconds on one clock; `draft_at` is None if no draft preceded the need. `waste_seconds` is the expected delay that a
    prefetch for this hop causes to the work it competes with.
    """

    retrieval_seconds: float
    needed_at: float
    draft_at: float | None = None
    waste_seconds: float = 0.0


class DraftAccuracy(TypedDict):
    """The share of hops whose draft found the final documents, with its exact 95 % interval."""

    hops: int
    right: int
    share: float
    ci: Interval


class PrefetchBound(TypedDict):
    """The most seconds saved, and the speed-up of `serial_seconds` that the total allows.

    A negative bound is a finding: prefetch would cost more than it saves. The speed-up is None if no time is left to
    compare with, as when no question was answered.
    """

    seconds: float
    speedup: float | None


def draft_accuracy(pairs: Sequence[tuple[Collection[str], Collection[str]]]) -> DraftAccuracy:
    """Return how often the documents of a draft query equal those finally retrieved, in any order.

    Args:
        pairs: for each hop the ids found for the draft and the ids finally retrieved.

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError("No hop has both a draft and a final retrieval.")
    right = sum(set(draft) == set(final) for draft, final in pairs)
    ci = binomtest(right, len(pairs)).proportion_ci(LEVEL)
    return {"hops": len(pairs), "right": right, "share": right / len(pairs), "ci": (float(ci.low), float(ci.high))}


def prefetch_bound(hops: Sequence[Hop], draft_right: float, serial_seconds: float) -> PrefetchBound:
    """Return the bound on what prefetch saves.

    Args:
        hops: every hop; one without a draft neither saves nor wastes time.
        draft_right: probability that a draft finds the final documents; see `draft_accuracy`.
        serial_seconds: the duration of the questions without prefetch.
    """
    seconds = sum(_saved(hop, draft_right) for hop in hops)
    left = serial_seconds - seconds
    return {"seconds": seconds, "speedup": serial_seconds / left if serial_seconds > 0 and left > 0 else None}


def _saved(hop: Hop, draft_right: float) -> float:
    if hop.draft_at is None or hop.draft_at >= hop.needed_at:
        return 0.0
    return min(hop.retrieval_seconds, hop.needed_at - hop.draft_at) * draft_right - hop.waste_seconds
