"""How the time of a call grows with its context, for prefill and for decode, each with the expected growth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from workload.errors import UsageError
from workload.record.results import Row, calls_with_usage
from workload.statistics.curvature import power, quadratic_share
from workload.statistics.growth import Fit, Growth, Shape, design, fit_growth
from workload.statistics.resampling import TAILS, bounded, wild_responses
from workload.statistics.wall import is_wall, slope_ratio
from workload.theory.physics import kv_bytes_per_token, prefill_cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from workload.statistics.usl import Bounds

# Over fewer tokens the time of the last chunk weighs more than that of a token.
MIN_DECODED = 8
SHARES_AT = (512, 2048, 8192)
BAND_RESAMPLES = 999
Points = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


class Physics(TypedDict, total=False):
    """What the model's config implies before any measurement, or only the reason why nothing, `unknown`."""

    unknown: str
    linear_flops_per_token: int
    quadratic_flops: int
    quadratic_share_at: dict[str, float]
    kv_bytes_per_token: int


class GrowthFit(TypedDict, total=False):
    """How seconds grow with tokens. If nothing fits, it has only `calls`, `lengths` and the reason, `unknown`.

    `tokens` and `seconds` are the shortest and the longest length, and the fit there. `quadratic_share` is the
    quadratic term over the linear one at the longest length, `power` the probability that such calls show the expected
    share. `no_quadratic_share` and `no_slope_ratio` say why a value is None.
    """

    calls: int
    lengths: int
    unknown: str
    tokens: list[float]
    shape: Shape
    coefficients: list[float]
    seconds: list[float]
    knot_tokens: float | None
    aicc: dict[Shape, float]
    bic: dict[Shape, float]
    quadratic_share: float | None
    no_quadratic_share: str
    quadratic_share_ci: Bounds
    is_superlinear: bool
    expected_quadratic_share: float | None
    power: float | None
    slope_ratio: dict[Literal["knot_tokens", "knot_ci", "ratio", "ci"], Any] | None
    no_slope_ratio: str
    is_wall: bool


def prefill_points(calls: Iterable[Row]) -> Points:
    """Return prompt tokens that were not cached, and seconds to the first token, of successful calls: shape (n,) each.

    Cached tokens are not computed; against all prompt tokens a warm call would look fast for its length.
    """
    known = ("prompt_tokens", "cached_tokens", "ttft_seconds")
    rows = [row for row in calls if row["outcome"] == "ok" and all(row[name] is not None for name in known)]
    uncached = [(row["prompt_tokens"] - row["cached_tokens"], row["ttft_seconds"]) for row in rows]
    return _columns([(tokens, seconds) for tokens, seconds in uncached if tokens > 0])


def decode_points(calls: Iterable[Row]) -> Points:
    """Return the mean context while a call decoded, and its seconds per token after the first: shape (n,) each."""
    found = [
        (
            call["prompt_tokens"] + call["completion_tokens"] / 2,
            (call["duration_seconds"] - call["ttft_seconds"]) / (call["completion_tokens"] - 1),
        )
        for call in calls_with_usage(calls)
        if call["ttft_seconds"] is not None and call["completion_tokens"] >= MIN_DECODED
    ]
    return _columns(found)


def physics_of(config: Mapping[str, Any]) -> Physics:
    """Return what the model's config implies."""
    try:
        cost, kv_bytes = prefill_cost(config), kv_bytes_per_token(config)
    except UsageError as error:
        return {"unknown": str(error)}
    return {
        "linear_flops_per_token": cost.linear_flops,
        "quadratic_flops": cost.quadratic_flops,
        "quadratic_share_at": {str(tokens): cost.quadratic_share(tokens) for tokens in SHARES_AT},
        "kv_bytes_per_token": kv_bytes,
    }


def expected_share(physics: Physics, tokens: float) -> float | None:
    """Return the quadratic over the linear term of a prefill of `tokens`, by the config; None if it is unknown."""
    if "unknown" in physics:
        return None
    return physics["quadratic_flops"] * tokens / physics["linear_flops_per_token"]


def growth_of(points: Points, physics: Physics | None = None) -> GrowthFit:
    """Return the shape of seconds against tokens, its quadratic share, and whether it has a wall.

    The `physics` of a prefill adds the expected quadratic share and the power.
    """
    tokens, seconds = points
    found: GrowthFit = {"calls": len(tokens), "lengths": len(np.unique(tokens))}
    try:
        growth = fit_growth(tokens, seconds)
    except ValueError as error:
        return {**found, "unknown": str(error)}
    found |= {
        "tokens": [float(tokens.min()), float(tokens.max())],
        "shape": growth.chosen.shape,
        "coefficients": list(growth.chosen.coefficients),
        "seconds": growth.chosen.seconds(np.array([tokens.min(), tokens.max()])).tolist(),
        "knot_tokens": growth.chosen.knot_tokens,
        "aicc": {shape: fit.aicc for shape, fit in growth.fits.items()},
        "bic": {shape: fit.bic for shape, fit in growth.fits.items()},
    }
    return found | _curvature(tokens, seconds, physics) | _wall(tokens, seconds, growth)


def _curvature(tokens: NDArray[np.float64], seconds: NDArray[np.float64], physics: Physics | None) -> GrowthFit:
    try:
        share = quadratic_share(tokens, seconds)
    except ValueError as error:
        return {"quadratic_share": None, "no_quadratic_share": str(error)}
    expected = expected_share(physics, share.tokens) if physics else None
    return {
        "quadratic_share": bounded(share.share),
        "quadratic_share_ci": bounded(share.ci),
        "is_superlinear": share.is_superlinear,
        "expected_quadratic_share": expected,
        "power": power(tokens, seconds, expected) if expected else None,
    }


def _wall(tokens: NDArray[np.float64], seconds: NDArray[np.float64], growth: Growth) -> GrowthFit:
    try:
        ratio = slope_ratio(tokens, seconds)
    except ValueError as error:
        return {"slope_ratio": None, "no_slope_ratio": str(error), "is_wall": False}
    return {
        "slope_ratio": {
            "knot_tokens": ratio.knot_tokens,
            "knot_ci": bounded(ratio.knot_ci),
            "ratio": bounded(ratio.ratio),
            "ci": bounded(ratio.ci),
        },
        "is_wall": is_wall(growth, ratio),
    }


def fit_band(points: Points, fit: Fit, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 95 % band of a fitted shape at the lengths `at`, shape (2, len(at)), by the wild bootstrap.

    The knot of a hinge is fixed, so its band is too narrow near the knot.
    """
    tokens, seconds = points
    scale = tokens.max()
    knot = None if fit.knot_tokens is None else fit.knot_tokens / scale
    matrix = design(fit.shape, tokens / scale, knot)
    responses = wild_responses(matrix, seconds, BAND_RESAMPLES, np.random.default_rng(0))
    curves = (np.linalg.pinv(matrix) @ responses.T).T @ design(fit.shape, at / scale, knot).T
    return np.asarray(np.quantile(curves, TAILS, axis=0))


def onset(calls: Iterable[Row], affected: Iterable[bool]) -> int | None:
    """Return the shortest prompt, in tokens, of the affected calls; None if there are none."""
    found = [call["prompt_tokens"] for call, is_affected in zip(calls, affected, strict=True) if is_affected]
    return min((tokens for tokens in found if tokens is not None), default=None)


def _columns(rows: Sequence[tuple[float, float]]) -> Points:
    if not rows:
        return np.empty(0), np.empty(0)
    tokens, seconds = np.array(rows, dtype=np.float64).T
    return tokens, seconds
