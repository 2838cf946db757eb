"""Fits how time grows with tokens: four shapes, and the one that the data support.

AICc = n ln(RSS / n) + 2k + 2k(k + 1) / (n - k - 1) and BIC = n ln(RSS / n) + k ln n, with k counting the noise
variance and the hinge's knot. Sources: Hurvich and Tsai 1989, doi:10.1093/biomet/76.2.297; Schwarz 1978,
doi:10.1214/aos/1176344136. Shapes within 2 of the best AICc are a tie (Burnham and Anderson 2004,
doi:10.1177/0049124104268644), which BIC decides. Both criteria assume that noise has constant variance; if it grows
with the time, about one straight line in nine is taken for a slight hinge. So verdicts rest on the intervals of
`workload.statistics.curvature` and `workload.statistics.wall`, which do not assume it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Shape = Literal["constant", "linear", "quadratic", "hinge"]
# The fewest distinct context lengths; with fewer, a shape fits anything.
MIN_LENGTHS: dict[Shape, int] = {"constant": 1, "linear": 3, "quadratic": 4, "hinge": 6}
PARAMETERS: dict[Shape, int] = {"constant": 2, "linear": 3, "quadratic": 4, "hinge": 5}
TIE_AICC = 2.0
KNOTS = 80
# A knot closer to either end would fit a slope to a handful of calls.
KNOT_QUANTILES = (0.15, 0.85)
# No clock resolves a billionth of the longest call, so a smaller residual is rounding and not a better fit.
RESOLUTION = 1e-9


@dataclass(frozen=True)
class Fit:
    """A fitted shape: seconds against tokens.

    `coefficients` are seconds, seconds per token, and then seconds per token squared (quadratic) or the change of slope
    at `knot_tokens` in seconds per token (hinge).
    """

    shape: Shape
    coefficients: tuple[float, ...]
    knot_tokens: float | None
    aicc: float
    bic: float

    def seconds(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fitted seconds at `tokens`, shape (n,)."""
        return np.asarray(design(self.shape, tokens, self.knot_tokens) @ np.array(self.coefficients))


@dataclass(frozen=True)
class Growth:
    """Every shape that could be fitted to `calls` calls, by name, and the chosen one."""

    calls: int
    fits: dict[Shape, Fit]
    chosen: Fit


def fit_growth(tokens: NDArray[np.float64], seconds: NDArray[np.float64]) -> Growth:
    """Fit seconds against tokens, both of shape (n,), by least squares and choose a shape.

    A shape is omitted if the calls have too few distinct lengths for it.

    Raises:
        ValueError: the shapes of the arrays differ, or there are fewer than 4 calls.
    """
    if tokens.shape != seconds.shape or len(tokens) < 4:
        raise ValueError(f"{len(tokens)} token counts and {len(seconds)} times cannot be fitted; 4 of each can.")
    lengths = len(np.unique(tokens))
    fits = {
        shape: min((_fit(shape, tokens, seconds, knot) for knot in knots(shape, tokens)), key=lambda fit: fit.bic)
        for shape, least in MIN_LENGTHS.items()
        if lengths >= least and len(tokens) > PARAMETERS[shape] + 1
    }
    best = min(fit.aicc for fit in fits.values())
    tied = [fit for fit in fits.values() if fit.aicc <= best + TIE_AICC]
    return Growth(len(tokens), fits, min(tied, key=lambda fit: fit.bic))


def design(shape: Shape, tokens: NDArray[np.float64], knot: float | None = None) -> NDArray[np.float64]:
    """Return the design matrix of a shape, shape (n, 1 to 3)."""
    columns = [np.ones_like(tokens), tokens]
    if shape == "constant":
        columns.pop()
    elif shape == "quadratic":
        columns.append(np.square(tokens))
    elif shape == "hinge" and knot is not None:
        columns.append(np.maximum(tokens - knot, 0))
    return np.column_stack(columns)


def knots(shape: Shape, tokens: NDArray[np.float64]) -> Iterator[float | None]:
    """Yield the knots to try: None, or for the hinge a grid over the middle 70 % of the calls."""
    if shape != "hinge":
        yield None
        return
    low, high = np.quantile(tokens, KNOT_QUANTILES)
    yield from map(float, np.linspace(low, high, KNOTS))


def _fit(shape: Shape, tokens: NDArray[np.float64], seconds: NDArray[np.float64], knot: float | None) -> Fit:
    scale = float(np.max(np.abs(tokens))) or 1.0
    # A matrix with both 1 and tokens squared loses half of a float's digits, so fit on tokens / largest.
    matrix = design(shape, tokens / scale, None if knot is None else knot / scale)
    solution = np.linalg.lstsq(matrix, seconds)[0]
    n, k = len(tokens), PARAMETERS[shape]
    floor = n * (RESOLUTION * float(np.max(np.abs(seconds)))) ** 2 or np.finfo(float).tiny
    misfit = n * np.log(max(float(np.square(seconds - matrix @ solution).sum()), floor) / n)
    powers = (0, 1, 1 if shape == "hinge" else 2)[: len(solution)]
    return Fit(
        shape,
        tuple(float(value / scale**power) for value, power in zip(solution, powers, strict=True)),
        knot,
        aicc=float(misfit + 2 * k + 2 * k * (k + 1) / (n - k - 1)),
        bic=float(misfit + k * np.log(n)),
    )
