"""The quadratic share of a growth, its interval, and the curvature that the data could have shown.

With seconds = a + b n + c n^2 the quadratic share is c n / b at the largest n: the quadratic term over the linear one,
the same ratio that `physics.PrefillCost.quadratic_share` expects from a model's config.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.statistics.growth import design
from workload.statistics.resampling import percentile_interval, ratios, wild_responses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workload.statistics.paired import Interval

RESAMPLES = 1_999
RESAMPLES_PER_SIMULATION = 399
SIMULATIONS = 400


@dataclass(frozen=True)
class QuadraticShare:
    """The quadratic term over the linear one at `tokens`, with its 95 % interval; infinite without a linear part."""

    tokens: float
    share: float
    ci: Interval

    @property
    def is_superlinear(self) -> bool:
        """Whether the interval lies above zero."""
        return self.ci[0] > 0


def quadratic_share(
    tokens: NDArray[np.float64], seconds: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> QuadraticShare:
    """Return the quadratic share of seconds against tokens, both of shape (n,), at the largest n.

    Raises:
        ValueError: fewer than 5 calls, or fewer than 3 distinct lengths.
    """
    if len(tokens) < 5 or len(np.unique(tokens)) < 3:
        raise ValueError("A curvature needs 5 calls of 3 lengths.")
    largest = float(tokens.max())
    matrix = design("quadratic", tokens / largest)
    rng = np.random.default_rng(seed)
    responses = np.vstack([seconds, wild_responses(matrix, seconds, resamples, rng)])
    _, linear, quadratic = np.linalg.pinv(matrix) @ responses.T
    shares = ratios(quadratic, linear)
    return QuadraticShare(largest, float(shares[0]), percentile_interval(shares[1:]))


def power(
    tokens: NDArray[np.float64],
    seconds: NDArray[np.float64],
    share: float,
    seed: int = 0,
    simulations: int = SIMULATIONS,
) -> float:
    """Return the probability that calls like these would show a curvature of `share` as superlinear.

    This simulates with the data's own design and noise: the straight line through the data, bent by `share` of its
    linear part at the largest n, plus the residuals of the quadratic fit with random signs, each at its own point. At
    share 0 it is the rate of false findings.

    `tokens` and `seconds` have the shape (n,); `share` is the quadratic term over the linear one at the largest n.
    """
    rng = np.random.default_rng(seed)
    relative = tokens / tokens.max()
    matrix = design("quadratic", relative)
    noise = wild_responses(matrix, seconds, simulations, rng) - matrix @ (np.linalg.pinv(matrix) @ seconds)
    intercept, slope = np.linalg.lstsq(matrix[:, :2], seconds)[0]
    planted = intercept + slope * relative + share * slope * np.square(relative)
    found = [
        quadratic_share(tokens, planted + errors, seed + 1 + index, RESAMPLES_PER_SIMULATION).is_superlinear
        for index, errors in enumerate(noise)
    ]
    return float(np.mean(found))
