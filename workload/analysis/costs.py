"""The cost of prompt tokens, context tokens and other calls' prompts, fitted on the calls of one arm.

The model follows what attention and the layers around it compute, and what one engine step contains:

    time to first token = fixed + a x uncached + b x uncached x (prompt - uncached / 2)
    decode time = steps x (fixed + c x context) + d x meanwhile

An uncached token passes the layers (a) and attends to every earlier token, cached or not (b): on average to the prompt
less half of the uncached tokens. A generated token attends to its whole context (c). `meanwhile` are the uncached
tokens of other calls whose first token came while this one decoded: the engine computes them in the same steps, so
each of them delays every decoding call (d). With one call at a time there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
from scipy.optimize import least_squares, nnls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.record.results import Row

# The slope of fewer calls is noise.
MIN_CALLS = 10
# The time per token of fewer steps is mostly arrival noise.
MIN_STEPS = 16
# As a share of the median time: larger residuals count linearly instead of squared.
STRAGGLING = 0.1
TOLERANCE = 1e-12


class Costs(TypedDict):
    """Seconds, each at least 0.

    Attributes:
        per_token: a above.
        per_attended_token: b above.
        per_context_token: c above; 0 where the calls do not show it.
        per_token_beside: d above; 0 where the calls do not show it.
    """

    per_token: float
    per_attended_token: float
    per_context_token: float
    per_token_beside: float


def fit_costs(calls: Sequence[Row], meanwhile: Sequence[float]) -> Costs | None:
    """Return the costs of calls; `meanwhile` is the work for others during each, see `computed_meanwhile`.

    None for fewer than `MIN_CALLS` calls with known tokens and times, if all calls have equally many uncached tokens,
    or if prompt tokens cost nothing.
    """
    known = [call for call in calls if call["cached_tokens"] is not None and call["ttft_seconds"] is not None]
    prefilled = np.array([prefill(call) for call in known], dtype=np.float64).reshape(-1, 2)
    if len(known) < MIN_CALLS or np.ptp(prefilled[:, 0]) == 0:
        return None
    per_token, per_attended = _slopes(prefilled, np.array([call["ttft_seconds"] for call in known]))
    if per_token + per_attended == 0:
        return None
    per_context, per_other = _decode_costs(calls, meanwhile)
    return Costs(
        per_token=per_token, per_attended_token=per_attended, per_context_token=per_context, per_token_beside=per_other
    )


def prefill(call: Row) -> tuple[float, float]:
    """Return a call's uncached tokens, and the sum over them of the tokens that each attends to."""
    uncached = call["prompt_tokens"] - call["cached_tokens"]
    return uncached, uncached * (call["prompt_tokens"] - uncached / 2)


def steps(call: Row) -> int:
    """Return the decode steps of a call: its first token comes with the prefill."""
    return max((call["completion_tokens"] or 0) - 1, 0)


def context(call: Row) -> float:
    """Return the context of the middle one of a call's decode steps, in tokens."""
    return float(call["prompt_tokens"] + call["completion_tokens"] / 2)


def computed_meanwhile(calls: Sequence[Row]) -> list[float]:
    """Return for each call the uncached prompt tokens of other calls whose first token came while it decoded.

    A call with unknown tokens or time to first token counts as 0 for the others, and gets 0 itself.
    """
    is_known = [call["ttft_seconds"] is not None and call["cached_tokens"] is not None for call in calls]
    first = np.array([call["started_at"] + (call["ttft_seconds"] or 0.0) for call in calls], dtype=np.float64)
    end = np.array([call["started_at"] + call["duration_seconds"] for call in calls], dtype=np.float64)
    tokens = [prefill(call)[0] if known else 0.0 for call, known in zip(calls, is_known, strict=True)]
    order = np.argsort(first)
    until = np.concatenate([[0.0], np.cumsum(np.array(tokens, dtype=np.float64)[order])])
    begins, ends = (until[np.searchsorted(first[order], at, side="right")] for at in (first, end))
    found: list[float] = np.where(is_known, ends - begins, 0.0).tolist()
    return found


def _decode_costs(calls: Sequence[Row], meanwhile: Sequence[float]) -> tuple[float, float]:
    """Return c and d, 0 each for fewer than `MIN_CALLS` calls of `MIN_STEPS` steps."""
    rows = [
        (context(call), tokens / steps(call), (call["duration_seconds"] - call["ttft_seconds"]) / steps(call))
        for call, tokens in zip(calls, meanwhile, strict=True)
        if call["ttft_seconds"] is not None and call["prompt_tokens"] is not None and steps(call) >= MIN_STEPS
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    if len(table) < MIN_CALLS:
        return 0.0, 0.0
    per_context, per_token = _slopes(table[:, :2], table[:, 2])
    return per_context, per_token


def _slopes(table: NDArray[np.float64], seconds: NDArray[np.float64]) -> list[float]:
    """Return the slope of each column, at least 0: fitted with a constant, and robust to stragglers (soft L1)."""
    typical = float(np.median(seconds))
    if not typical:  # Calls that mostly take no measurable time have no slope.
        return [0.0] * table.shape[1]
    varies = np.ptp(table, axis=0) > 0
    scale = np.where(varies, table.max(axis=0), 1.0)
    design = np.column_stack([np.ones(len(table)), np.where(varies, table, 0.0) / scale])
    start, _ = nnls(design, seconds)
    fit = least_squares(
        lambda cost: design @ cost - seconds,
        np.maximum(start, 1e-9),
        bounds=(0, np.inf),
        loss="soft_l1",
        f_scale=STRAGGLING * typical,
        xtol=TOLERANCE,
        ftol=TOLERANCE,
        gtol=TOLERANCE,
    )
    found: list[float] = np.where(varies, fit.x[1:] / scale, 0.0).tolist()
    return found
