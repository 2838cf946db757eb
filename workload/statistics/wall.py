"""Whether time against tokens has a wall: the slope after a hinge over the slope before it.

The knot is searched for, so even a straight line has a best hinge. Three guards keep noise and smooth curvature from
passing for a wall: each resample searches for the knot again, the interval of the slope ratio must lie above 1, and no
other shape may have a similar AICc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.statistics.growth import KNOT_QUANTILES, KNOTS, Growth, design, knots
from workload.statistics.resampling import percentile_interval, ratios, wild_responses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workload.statistics.paired import Interval

RESAMPLES = 999
# Between 4 and 7 a shape has "considerably less support" (Burnham and Anderson 2004, doi:10.1177/0049124104268644).
CLEAR_AICC = 6.0


@dataclass(frozen=True)
class SlopeRatio:
    """The slope after the best knot over the slope before it, with 95 % intervals; infinite after a flat start."""

    knot_tokens: float
    knot_ci: Interval
    ratio: float
    ci: Interval


def slope_ratio(
    tokens: NDArray[np.float64], seconds: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> SlopeRatio:
    """Return the slope ratio of the best hinge through seconds against tokens, both of shape (n,).

    Raises:
        ValueError: fewer than 7 calls, or fewer than 6 distinct lengths.
    """
    if len(tokens) < 7 or len(np.unique(tokens)) < 6:
        raise ValueError("A hinge needs 7 calls of 6 lengths.")
    scale = float(tokens.max())
    relative = tokens / scale
    knot, slopes = _best_hinges(relative, seconds[np.newaxis])
    matrix = design("hinge", relative, float(knot[0]))
    rng = np.random.default_rng(seed)
    knots_again, slopes_again = _best_hinges(relative, wild_responses(matrix, seconds, resamples, rng))
    low, high = percentile_interval(knots_again)
    # The grid limits the knot's resolution.
    half_step = float(np.ptp(np.quantile(relative, KNOT_QUANTILES))) / (KNOTS - 1) / 2
    return SlopeRatio(
        knot_tokens=float(knot[0]) * scale,
        knot_ci=((low - half_step) * scale, (high + half_step) * scale),
        ratio=float(_ratios(slopes)[0]),
        ci=percentile_interval(_ratios(slopes_again)),
    )


def is_wall(growth: Growth, found: SlopeRatio) -> bool:
    """Return whether a growth has a wall: a hinge clearly better than any other shape, its ratio's interval above 1."""
    others = [fit.aicc for fit in growth.fits.values() if fit.shape != "hinge"]
    return growth.chosen.shape == "hinge" and growth.chosen.aicc + CLEAR_AICC < min(others) and found.ci[0] > 1


def _ratios(slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 + ratios(slopes[:, 1], slopes[:, 0]), dtype=np.float64)


def _best_hinges(
    tokens: NDArray[np.float64], responses: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the best knots, shape (m,), and (slope, change of slope), shape (m, 2), for m rows of responses."""
    total = np.square(responses).sum(axis=1)
    least = np.full(len(responses), np.inf)
    best_knots, slopes = np.zeros(len(responses)), np.zeros((len(responses), 2))
    for knot in knots("hinge", tokens):
        basis, triangle = np.linalg.qr(design("hinge", tokens, knot))
        projected = responses @ basis
        misfit = total - np.square(projected).sum(axis=1)
        better = misfit < least
        least[better] = misfit[better]
        best_knots[better] = knot
        slopes[better] = np.linalg.solve(triangle, projected[better].T).T[:, 1:]
    return best_knots, slopes
