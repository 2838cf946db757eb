"""What an arm should change, worked out before it is measured: from the first arm's times and from counted tokens.

Amdahl: a question's time falls by the time of what is saved and by nothing else. What tokens cost is fitted on the
calls of the first arm alone, see `workload.analysis.costs`. The fixed cost of a call, which no cache saves, stays out.
What is computed beside a call is taken to change as all uncached tokens do. What longer prompts cost the calls beside
them (their attention, the contexts read in each step) is left out: with several questions at a time and prompts that
grow, too much is predicted (benchmarks/README.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.analysis.ab import end_to_end, uncached_tokens
from workload.analysis.costs import computed_meanwhile, context, fit_costs, prefill, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workload.analysis.costs import Costs
    from workload.record.results import Row, RunData
    from workload.statistics.paired import Interval

# What the prediction knows of; an arm that differs in anything else is left unpredicted.
PREDICTABLE = frozenset(
    {"layout", "primed", "context", "context_budget", "prefix_caching", "prefetch", "draft_accuracy"}
)


@dataclass(frozen=True)
class Prediction:
    """The end-to-end change that theory allows, as the median over questions of saved time over time.

    Attributes:
        change: below 0 is faster; None where nothing can be predicted.
        prefill_share: of a question's time in the first arm, what uncached prompt tokens take, those of others too.
        costs: what it rests on.
        why_not: why there is no prediction.
    """

    change: float | None
    prefill_share: float | None = None
    costs: Costs | None = None
    why_not: str | None = None

    def beside(self, measured: Interval | None) -> dict[str, Any]:
        """Return the prediction for JSON, and whether it lies inside the measured interval."""
        is_known = self.change is not None and measured is not None
        inside = (
            measured[0] <= self.change <= measured[1] if is_known and measured and self.change is not None else None
        )
        return {**asdict(self), "inside_measured_interval": inside}


def predict(
    data: RunData, first: str, other: str, differing: frozenset[str], retrieval_saved: Mapping[str, float] | None = None
) -> Prediction:
    """Return what `other` should change against `first`.

    Args:
        data: the run.
        first: the arm whose times are taken.
        other: the arm of which only counted tokens are taken.
        differing: names of the settings in which the two differ.
        retrieval_saved: seconds of retrieval that a question saves, by question id.
    """
    if unknown := sorted(differing - PREDICTABLE):
        return Prediction(None, why_not=f"no theory says what {unknown[0].replace('_', '-')} saves")
    calls = data.calls_of(first)
    beside = computed_meanwhile(calls)
    costs = fit_costs(calls, beside)
    if costs is None:
        return Prediction(None, why_not="the first arm's calls give no time per uncached token")
    # By identity: `by_question` hands out these very rows.
    tokens_beside = {id(call): tokens for call, tokens in zip(calls, beside, strict=True)}

    def of_prefill(call: Row) -> float:
        return float(np.dot((costs.per_token, costs.per_attended_token), prefill(call)))

    def of_context(call: Row) -> float:
        return costs.per_context_token * steps(call) * context(call)

    def of_others(call: Row) -> float:
        return costs.per_token_beside * tokens_beside.get(id(call), 0.0)

    seconds = data.by_question(first, end_to_end)
    others = data.by_question(first, _summed(of_others))
    parts = [data.by_question(arm, _summed(part)) for part in (of_prefill, of_context) for arm in (first, other)]
    counted = [data.by_question(arm, uncached_tokens) for arm in (first, other)]
    timed = {each for each, taken in seconds.items() if taken > 0}  # of no time nothing can be a share
    shared = timed.intersection(others, *parts, *counted)
    if not shared:
        return Prediction(None, why_not="no question was answered in both arms")
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
    return Prediction(median(changes), share, costs)


def _summed(part: Callable[[Row], float]) -> Callable[[Row, list[Row]], float | None]:
    """Return what sums a part of the calls' time over a question; None where a call does not tell its tokens."""

    def over(_: Row, calls: list[Row]) -> float | None:
        told = ("prompt_tokens", "cached_tokens", "completion_tokens")
        return None if any(call[key] is None for call in calls for key in told) else sum(map(part, calls))

    return over
