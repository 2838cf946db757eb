"""What of a measured change cannot be the arm's: drift of the machine, by a control, and what theory has no room for.

The control is the decode time a token (`workload.analysis.ab.decode_time`), which no cache saves. It is one only where
nothing that differs between two arms is about decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.analysis.ab import CONTROL
from workload.analysis.levels import load_of
from workload.analysis.wording import change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SAME_PROMPTS = frozenset({"prefix_caching", "primed", "prefetch", "draft_accuracy", "retrieval", "retrieval_delay"})
OTHER_PROMPTS = frozenset({"layout", "context", "context_budget"})


def control_of(different: frozenset[str], points: Iterable[str]) -> str | None:
    """Return what else than drift moves the decode time a token of two arms, in words that may be empty.

    Args:
        different: names of the settings in which they differ.
        points: names of the loads.

    Returns:
        None where it is no control: what differs may be about decoding.
    """
    if not different <= SAME_PROMPTS | OTHER_PROMPTS:
        return None
    causes = ["what its own prompts cost each token"] if different & OTHER_PROMPTS else []
    causes += ["what others compute meanwhile"] if any(load_of(point) != ("closed", 1) for point in points) else []
    return "".join(f", or {cause}" for cause in causes)


def doubts(compared: Mapping[str, Any], allowed: float | None, whose: str, but_for: str | None) -> str:
    """Return clauses on what of an end-to-end change cannot be the arm's, or nothing.

    Where theory allows less than was measured, how much can be the arm's at the most. Drift where the control has moved
    by more than the end-to-end time, and where it explains what theory does not: it surely moved the same way.

    Args:
        compared: the comparisons of two arms by quantity, as in JSON.
        allowed: the end-to-end change that theory allows; None where there is none.
        whose: the arm's, in words.
        but_for: see `control_of`.
    """
    control, effect = compared[CONTROL], compared["end_to_end_seconds"]
    if effect["change"] is None:
        return ""
    limit = ""
    if allowed and effect["change"] / allowed > 1:
        limit = f"; at most {100 * abs(allowed):.1f} points can be {whose}"
    if but_for is None or control["change"] is None:
        return limit
    is_more = abs(control["change"]) > abs(effect["change"])
    is_same_way = bool(control["change_ci"]) and all(bound * effect["change"] > 0 for bound in control["change_ci"])
    if not is_more and not (limit and is_same_way):
        return limit
    more = ", more than that" if is_more else ""
    return f"{limit}; drift{but_for}: decode time a token moved by {change(control)}{more}"
