"""What an arm should change, worked out before it is measured: from the other arm's times and from counted tokens.

Amdahl: a question's time falls by the time of what is saved and by nothing else. A prompt token that need not be
computed saves the slope of the time to first token over uncached tokens, fitted on the calls of the first arm alone;
so the fixed cost of a call, which no cache saves, stays out of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import theilslopes

from workload.analysis.ab import end_to_end, uncached_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.analysis.paired import Interval
    from workload.results import Row, RunData

# A slope of fewer calls is their noise.
MIN_CALLS = 10
# What the prediction knows of; an arm that differs in anything else is left unpredicted.
PREDICTABLE = frozenset(
    {"layout", "primed", "context", "context_budget", "prefix_caching", "prefetch", "draft_accuracy"}
)


@dataclass(frozen=True)
class Prediction:
    """The end-to-end change that theory allows, as the median over questions of saved time over time.

    Attributes:
        change: below 0 is faster; None where nothing can be predicted.
        prefill_share: of a question's time in the first arm, what uncached prompt tokens take.
        seconds_per_token: the slope that it rests on.
        why_not: why there is no prediction.
    """

    change: float | None
    prefill_share: float | None = None
    seconds_per_token: float | None = None
    why_not: str | None = None

    def beside(self, measured: Interval | None) -> dict[str, Any]:
        """Return the prediction for JSON, and whether it lies inside the measured interval."""
        is_known = self.change is not None and measured is not None
        inside = (
            measured[0] <= self.change <= measured[1] if is_known and measured and self.change is not None else None
        )
        return {**asdict(self), "inside_measured_interval": inside}


def seconds_per_uncached_token(calls: Sequence[Row]) -> float | None:
    """Return the slope of TTFT over uncached prompt tokens, robust to stragglers (Theil and Sen).

    None for fewer than `MIN_CALLS` calls that tell both, where all are equally long, and where it is not above 0.
    """
    told = [
        (call["prompt_tokens"] - call["cached_tokens"], call["ttft_seconds"])
        for call in calls
        if call["cached_tokens"] is not None and call["ttft_seconds"] is not None
    ]
    tokens, seconds = np.array(told, dtype=np.float64).reshape(-1, 2).T
    if len(tokens) < MIN_CALLS or np.ptp(tokens) == 0:
        return None
    slope = float(theilslopes(seconds, tokens).slope)
    return slope if slope > 0 else None


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
    slope = seconds_per_uncached_token(data.calls_of(first))
    if slope is None:
        return Prediction(None, why_not="the first arm's calls give no time per uncached token")
    seconds = data.by_question(first, end_to_end)
    before, after = (data.by_question(arm, uncached_tokens) for arm in (first, other))
    shared = seconds.keys() & before.keys() & after.keys()
    if not shared:
        return Prediction(None, why_not="no question was answered in both arms")
    retrieval = retrieval_saved or {}
    changes = [
        -(slope * (before[question] - after[question]) + retrieval.get(question, 0.0)) / seconds[question]
        for question in shared
    ]
    share = median(slope * before[question] / seconds[question] for question in shared)
    return Prediction(median(changes), share, slope)
