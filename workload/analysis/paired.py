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

    `change` is the median over questions of b/a - 1, so a question is only ever compared with itself. Without a common
    question, as when all of an arm's have failed, n is 0 and everything else None.
    """

    n: int
    a: float | None
    a_ci: Interval | None
    b: float | None
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
    """Compare values by question of two arms over the questions that both have."""
    shared = sorted(a.keys() & b.keys())
    first = np.array([a[key] for key in shared], dtype=np.float64)
    second = np.array([b[key] for key in shared], dtype=np.float64)
    ratios = second[first > 0] / first[first > 0] - 1
    return Comparison(
        n=len(shared),
        a=_median(first),
        a_ci=median_ci(first, seed),
        b=_median(second),
        b_ci=median_ci(second, seed),
        change=_median(ratios),
        change_ci=median_ci(ratios, seed),
    )


def _median(values: NDArray[np.float64]) -> float | None:
    return float(np.median(values)) if values.size else None
