"""What prompts, contexts and the prompts of others cost, fitted on the calls of one arm.

By what attention and the layers around it compute, and by what a step of the engine holds:

    time to first token = fixed + a x uncached + b x uncached x (prompt - uncached / 2)
    time of the further tokens = steps x (fixed + c x context) + d x beside

An uncached token passes the layers (a) and attends to all before it, cached or not (b), on average to the prompt less
half of the uncached ones; a further token attends to its whole context (c). `beside` are the uncached tokens of other
calls whose first token came while this one decoded: the engine computes them in the same steps, so each makes every
call that decodes wait (d). With one call at a time there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares, nnls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.record.results import Row

# A slope of fewer calls is their noise.
MIN_CALLS = 10
# A time per token of fewer steps is mostly the noise of their arrival.
MIN_STEPS = 16
# Of the median time: a residual beyond it counts by its size and no more by its square.
STRAGGLING = 0.1
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Costs:
    """Seconds, each at least 0.

    Attributes:
        per_token: a above.
        per_attended_token: b above.
        per_context_token: c above; 0 where nothing shows it.
        per_token_beside: d above; 0 where nothing shows it.
    """

    per_token: float
    per_attended_token: float
    per_context_token: float
    per_token_beside: float


def fit_costs(calls: Sequence[Row], beside: Sequence[float]) -> Costs | None:
    """Return what calls cost; `beside` is what was computed beside each, see `computed_meanwhile`.

    None for fewer than `MIN_CALLS` calls that tell their tokens and their time, where all have as many uncached tokens,
    and where prompt tokens cost nothing.
    """
    told = [call for call in calls if call["cached_tokens"] is not None and call["ttft_seconds"] is not None]
    prefilled = np.array([prefill(call) for call in told], dtype=np.float64).reshape(-1, 2)
    if len(told) < MIN_CALLS or np.ptp(prefilled[:, 0]) == 0:
        return None
    per_token, per_attended = _slopes(prefilled, np.array([call["ttft_seconds"] for call in told]))
    if per_token + per_attended == 0:
        return None
    return Costs(per_token, per_attended, *_decode_costs(calls, beside))


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
    """Return for each call the uncached prompt tokens of others whose first token came while it decoded.

    A call that does not tell its tokens or its time to first token counts as none, and has none.
    """
    told = [call["ttft_seconds"] is not None and call["cached_tokens"] is not None for call in calls]
    first = np.array([call["started_at"] + (call["ttft_seconds"] or 0.0) for call in calls], dtype=np.float64)
    end = np.array([call["started_at"] + call["duration_seconds"] for call in calls], dtype=np.float64)
    tokens = [prefill(call)[0] if is_told else 0.0 for call, is_told in zip(calls, told, strict=True)]
    order = np.argsort(first)
    until = np.concatenate([[0.0], np.cumsum(np.array(tokens, dtype=np.float64)[order])])
    begins, ends = (until[np.searchsorted(first[order], at, side="right")] for at in (first, end))
    found: list[float] = np.where(told, ends - begins, 0.0).tolist()
    return found


def _decode_costs(calls: Sequence[Row], beside: Sequence[float]) -> tuple[float, float]:
    """Return c and d, 0 each for fewer than `MIN_CALLS` calls of `MIN_STEPS` steps."""
    told = [
        (context(call), tokens / steps(call), (call["duration_seconds"] - call["ttft_seconds"]) / steps(call))
        for call, tokens in zip(calls, beside, strict=True)
        if call["ttft_seconds"] is not None and call["prompt_tokens"] is not None and steps(call) >= MIN_STEPS
    ]
    table = np.array(told, dtype=np.float64).reshape(-1, 3)
    if len(table) < MIN_CALLS:
        return 0.0, 0.0
    per_context, per_token = _slopes(table[:, :2], table[:, 2])
    return per_context, per_token


def _slopes(table: NDArray[np.float64], seconds: NDArray[np.float64]) -> list[float]:
    """Return the slope of each column, none below 0: with a constant, and bent little by stragglers (soft L1)."""
    typical = float(np.median(seconds))
    if not typical:  # what mostly takes no time that a clock shows has no slope
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
