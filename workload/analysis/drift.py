"""The part of a measured change that the arm cannot have caused: drift of the machine, and more than theory allows.

The control is the decode time per token (`workload.analysis.ab.decode_time`), which no cache saves. It serves as a
control only where the arms do not differ in anything that affects decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.analysis.ab import CONTROL, Compared
from workload.analysis.levels import load_of
from workload.analysis.wording import change

if TYPE_CHECKING:
    from collections.abc import Iterable


SAME_PROMPTS = frozenset({"prefix_caching", "primed", "prefetch", "draft_accuracy", "retrieval", "retrieval_delay"})
OTHER_PROMPTS = frozenset({"layout", "context", "context_budget"})


def control_of(different: frozenset[str], points: Iterable[str]) -> str | None:
    """Return the causes besides drift that can change the decode time per token of two arms, in words, maybe empty.

    Args:
        different: names of the settings in which they differ.
        points: names of the loads.

    Returns:
        None if it is not a control, because the arms differ in something that may affect decoding.
    """
    if not different <= SAME_PROMPTS | OTHER_PROMPTS:
        return None
    causes = ["contexts of another length"] if different & OTHER_PROMPTS else []
    causes += ["work for other questions"] if any(load_of(point) != ("closed", 1) for point in points) else []
    return "".join(f", or {cause}" for cause in causes)


def doubts(compared: Compared, allowed: float | None, cause: str, but_for: str | None) -> str:
    """Return clauses on the part of an end-to-end change that the arm cannot have caused, or an empty text.

    If theory allows less than was measured, they name the most that the arm can have caused. They name drift if the
    control changed by more than the end-to-end time, or if it significantly changed in the same direction and so
    explains what theory does not.

    Args:
        compared: the comparisons of two arms by quantity.
        allowed: the end-to-end change that theory allows; None without a theory.
        cause: the arm, or its option, in words.
        but_for: see `control_of`.
    """
    control, effect = compared[CONTROL], compared["end_to_end_seconds"]
    if effect["change"] is None:
        return ""
    limit = ""
    if allowed and effect["change"] / allowed > 1:
        limit = f"; at most {100 * abs(allowed):.1f} points can come from {cause}"
    if but_for is None or control["change"] is None:
        return limit
    is_more = abs(control["change"]) > abs(effect["change"])
    bounds = control["change_ci"] or (0.0, 0.0)
    is_same_way = all(bound * effect["change"] > 0 for bound in bounds)
    if not is_more and not (limit and is_same_way):
        return limit
    more = ", more than that" if is_more else ""
    return f"{limit}; drift{but_for}: decode time per token moved by {change(control)}{more}"
