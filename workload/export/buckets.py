"""A histogram's buckets over time, each with what fell into it alone; Prometheus counts what lies below its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.export.answers import Answer


def by_bucket(answers: Sequence[Answer]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the upper bounds, ascending, and the counts, of shape (bounds, times), NaN where nothing is known."""
    ordered = sorted(answers, key=lambda answer: float(answer.labels["le"]))
    below = np.array([answer.values for answer in ordered])
    counts = np.diff(below, axis=0, prepend=np.zeros((1, below.shape[1])))
    # Rates of buckets that were scraped together differ by rounding only.
    return [answer.labels["le"] for answer in ordered], np.maximum(counts, 0.0)
