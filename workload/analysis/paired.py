"""Two arms on the same questions: medians, their difference, and how sure we are of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 9_999
# A percentile interval from fewer pairs than this covers far less than it says.
MIN_PAIRS = 5

Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Medians over `n` paired questions in the values' unit; intervals are 95 %, or None when n < `MIN_PAIRS`.

    `change` is the median over questions of b/a - 1, so a question is only ever compared with itself.
    """

    n: int
    a: float
    a_ci: Interval | None
    b: float
    b_ci: Interval | None
    change: float | None
    change_ci: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return asdict(self)


def median_ci(values: NDArray[np.float64], seed: int = 0) -> Interval | None:
    """Return the bootstrap percentile interval of the median of `values`, shape (n,); None when n < `MIN_PAIRS`."""
    if len(values) < MIN_PAIRS:
        return None
    found = bootstrap(
        (values,),
        np.median,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def compare(a: Mapping[str, float], b: Mapping[str, float], seed: int = 0) -> Comparison:
    """Compare values by question of two arms over the questions that both have.

    Raises:
        ValueError: the arms share no question.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise ValueError("The arms have no question in common.")
    first = np.array([a[key] for key in shared], dtype=np.float64)
    second = np.array([b[key] for key in shared], dtype=np.float64)
    ratios = (second / first - 1)[first > 0] if (first > 0).any() else np.array([])
    return Comparison(
        n=len(shared),
        a=float(np.median(first)),
        a_ci=median_ci(first, seed),
        b=float(np.median(second)),
        b_ci=median_ci(second, seed),
        change=float(np.median(ratios)) if ratios.size else None,
        change_ci=median_ci(ratios, seed) if ratios.size else None,
    )
