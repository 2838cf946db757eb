"""What an arm should change, worked out before it is measured: from the other arm's times and from counted tokens.

Amdahl: a question's time falls by the time of what is saved and by nothing else. What prompts and contexts cost is
fitted on the calls of the first arm alone, by what attention and the layers around it compute:

    time to first token = fixed + a x uncached + b x uncached x (prompt - uncached / 2)
    time of a further token = fixed + c x context

An uncached token passes the layers (a) and attends to all before it, cached or not (b), on average to the prompt less
half of the uncached ones; a further token attends to its whole context (c). The fixed cost of a call, which no cache
saves, stays out of the prediction.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import least_squares, nnls
from scipy.stats import theilslopes

from workload.analysis.ab import end_to_end

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.analysis.paired import Interval
    from workload.results import Row, RunData

# A slope of fewer calls is their noise.
MIN_CALLS = 10
# A time per token of fewer steps is mostly the noise of their arrival.
MIN_STEPS = 16
# Of the median time to first token: a residual beyond it counts by its size and no more by its square.
STRAGGLING = 0.1
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
        seconds_per_token, seconds_per_attended_token: a and b above, that it rests on.
        seconds_per_context_token: c above; 0 where none is shown.
        why_not: why there is no prediction.
    """

    change: float | None
    prefill_share: float | None = None
    seconds_per_token: float | None = None
    seconds_per_attended_token: float | None = None
    seconds_per_context_token: float | None = None
    why_not: str | None = None

    def beside(self, measured: Interval | None) -> dict[str, Any]:
        """Return the prediction for JSON, and whether it lies inside the measured interval."""
        is_known = self.change is not None and measured is not None
        inside = (
            measured[0] <= self.change <= measured[1] if is_known and measured and self.change is not None else None
        )
        return {**asdict(self), "inside_measured_interval": inside}


def prefill_cost(calls: Sequence[Row]) -> tuple[float, float] | None:
    """Return a and b of the time to first token: seconds a token, and seconds a token and token of context; both >= 0.

    A fit that a few stragglers do not bend (soft L1). None for fewer than `MIN_CALLS` calls that tell their tokens and
    their time, where all are equally long, and where prompt tokens cost nothing.
    """
    told = [call for call in calls if call["cached_tokens"] is not None and call["ttft_seconds"] is not None]
    tokens = np.array([_prefilled(call) for call in told], dtype=np.float64).reshape(-1, 2)
    if len(tokens) < MIN_CALLS or np.ptp(tokens[:, 0]) == 0:
        return None
    seconds = np.array([call["ttft_seconds"] for call in told])
    scale = tokens.max(axis=0)
    design = np.column_stack([np.ones(len(told)), tokens / scale])
    start, _ = nnls(design, seconds)
    fit = least_squares(
        lambda cost: design @ cost - seconds,
        np.maximum(start, 1e-9),
        bounds=(0, np.inf),
        loss="soft_l1",
        f_scale=STRAGGLING * float(np.median(seconds)),
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    per_token, per_context = (fit.x[1:] / scale).tolist()
    return (per_token, per_context) if per_token + per_context > 0 else None


def _prefilled(call: Row) -> tuple[float, float]:
    """Return a call's uncached tokens, and the sum over them of the tokens that each attends to."""
    uncached = call["prompt_tokens"] - call["cached_tokens"]
    return uncached, uncached * (call["prompt_tokens"] - uncached / 2)


def seconds_per_context_token(calls: Sequence[Row]) -> float:
    """Return the slope of the time of a further token over the context it is decoded in (Theil and Sen).

    0 for fewer than `MIN_CALLS` calls of `MIN_STEPS` steps, where all contexts are equal, and where it is not above 0.
    """
    told = [
        (_context(call), (call["duration_seconds"] - call["ttft_seconds"]) / _steps(call))
        for call in calls
        if call["ttft_seconds"] is not None and call["prompt_tokens"] is not None and _steps(call) >= MIN_STEPS
    ]
    contexts, seconds = np.array(told, dtype=np.float64).reshape(-1, 2).T
    if len(contexts) < MIN_CALLS or np.ptp(contexts) == 0:
        return 0.0
    return max(float(theilslopes(seconds, contexts).slope), 0.0)


def _steps(call: Row) -> int:
    """Return the decode steps of a call: its first token comes with the prefill."""
    return max((call["completion_tokens"] or 0) - 1, 0)


def _context(call: Row) -> float:
    """Return the context of the middle one of a call's decode steps, in tokens."""
    return float(call["prompt_tokens"] + call["completion_tokens"] / 2)


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
    cost = prefill_cost(data.calls_of(first))
    if cost is None:
        return Prediction(None, why_not="the first arm's calls give no time per uncached token")
    per_step = seconds_per_context_token(data.calls_of(first))

    def prefill(_: Row, calls: list[Row]) -> float | None:
        if any(call["prompt_tokens"] is None or call["cached_tokens"] is None for call in calls):
            return None
        return sum(float(np.dot(cost, _prefilled(call))) for call in calls)

    def decode(_: Row, calls: list[Row]) -> float | None:
        if any(call["prompt_tokens"] is None or call["completion_tokens"] is None for call in calls):
            return None
        return per_step * sum(_steps(call) * _context(call) for call in calls)

    seconds = data.by_question(first, end_to_end)
    parts = [data.by_question(arm, part) for part in (prefill, decode) for arm in (first, other)]
    shared = set(seconds).intersection(*parts)
    if not shared:
        return Prediction(None, why_not="no question was answered in both arms")
    prefill_first, prefill_other, decode_first, decode_other = parts
    retrieval = retrieval_saved or {}
    changes = [
        (prefill_other[each] - prefill_first[each] + decode_other[each] - decode_first[each] - retrieval.get(each, 0.0))
        / seconds[each]
        for each in shared
    ]
    share = median(prefill_first[each] / seconds[each] for each in shared)
    return Prediction(median(changes), share, *cost, per_step)
