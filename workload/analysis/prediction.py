"""The change that an arm should bring, predicted from the first arm's times and from counted tokens.

Amdahl: a question's time falls only by the time of the work that is saved. The cost of tokens is fitted on the calls of
the first arm alone, see `workload.analysis.costs`. The fixed cost of a call, which no cache saves, is omitted. The work
for other calls in the same steps is assumed to change like all uncached tokens. The cost of longer prompts for those
calls (attention, contexts read in each step) is omitted, so with several questions at a time and growing prompts the
prediction is too large (benchmarks/README.md).
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from workload.analysis.ab import end_to_end, uncached_tokens
from workload.analysis.costs import Costs, computed_meanwhile, context, fit_costs, prefill, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workload.record.results import Row, RunData
    from workload.statistics.paired import Interval

# Settings whose effect can be predicted; an arm that differs in any other setting has no prediction.
PREDICTABLE = frozenset(
    {"layout", "primed", "context", "context_budget", "prefix_caching", "prefetch", "draft_accuracy"}
)


class Prediction(TypedDict):
    """The end-to-end change that theory allows, below 0 for faster: the median over questions of time saved over time.

    `prefill_share` is the share of a question's time in the first arm that uncached prompt tokens take, including those
    of other questions. `inside_measured_interval` says whether the prediction lies in the interval that was measured.
    Without a prediction, `why_not` says why.
    """

    change: float | None
    prefill_share: float | None
    costs: Costs | None
    why_not: str | None
    inside_measured_interval: bool | None


NONE = Prediction(change=None, prefill_share=None, costs=None, why_not=None, inside_measured_interval=None)


def predict(
    data: RunData,
    first: str,
    other: str,
    differing: frozenset[str],
    *,
    retrieval_saved: Mapping[str, float] | None = None,
    measured: Interval | None = None,
) -> Prediction:
    """Return the change that `other` should bring against `first`.

    Of `other` only the counted tokens are used, of `first` the times too. `differing` names the settings in which they
    differ; `retrieval_saved` has the seconds of retrieval that each question saves, by its id; `measured` is the 95 %
    interval of the end-to-end change.
    """
    if unknown := sorted(differing - PREDICTABLE):
        return {**NONE, "why_not": f"no theory predicts the effect of {unknown[0].replace('_', '-')}"}
    calls = data.calls_of(first)
    meanwhile = computed_meanwhile(calls)
    costs = fit_costs(calls, meanwhile)
    if costs is None:
        return {**NONE, "why_not": "the first arm's calls give no time per uncached token"}
    # By identity: `by_question` passes on these same rows.
    tokens_meanwhile = {id(call): tokens for call, tokens in zip(calls, meanwhile, strict=True)}

    def of_prefill(call: Row) -> float:
        return float(np.dot((costs["per_token"], costs["per_attended_token"]), prefill(call)))

    def of_context(call: Row) -> float:
        return costs["per_context_token"] * steps(call) * context(call)

    def of_others(call: Row) -> float:
        return costs["per_token_beside"] * tokens_meanwhile.get(id(call), 0.0)

    seconds = data.by_question(first, end_to_end)
    others = data.by_question(first, _summed(of_others))
    parts = [data.by_question(arm, _summed(part)) for part in (of_prefill, of_context) for arm in (first, other)]
    counted = [data.by_question(arm, uncached_tokens) for arm in (first, other)]
    timed = {each for each, taken in seconds.items() if taken > 0}  # a share needs a time above 0
    shared = timed.intersection(others, *parts, *counted)
    if not shared:
        return {**NONE, "why_not": "no question was answered in both arms"}
    computed, computed_by_other = (sum(tokens[each] for each in shared) for tokens in counted)
    of_others_saved = 1 - computed_by_other / computed if computed else 0.0
    prefill_first, prefill_other, context_first, context_other = parts
    retrieval = retrieval_saved or {}
    changes = [
        (
            prefill_other[each]
            - prefill_first[each]
            + context_other[each]
            - context_first[each]
            - others[each] * of_others_saved
            - retrieval.get(each, 0.0)
        )
        / seconds[each]
        for each in shared
    ]
    share = median((prefill_first[each] + others[each]) / seconds[each] for each in shared)
    change = median(changes)
    inside = measured[0] <= change <= measured[1] if measured else None
    return {**NONE, "change": change, "prefill_share": share, "costs": costs, "inside_measured_interval": inside}


def _summed(part: Callable[[Row], float]) -> Callable[[Row, list[Row]], float | None]:
    """Return a function that sums a part of the calls' time over a question; None where tokens are unknown."""

    def over(_: Row, calls: list[Row]) -> float | None:
        needed = ("prompt_tokens", "cached_tokens", "completion_tokens")
        return None if any(call[key] is None for call in calls for key in needed) else sum(map(part, calls))

    return over
