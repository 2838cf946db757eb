"""Counts as they were counted: what a counter gained in a window, and no estimate of it."""

from __future__ import annotations

from workload.promql.query import RANGE


def gained(counter: str, window: str = RANGE) -> str:
    """Return what each series of a counter gained from its first to its last sample in a window.

    `increase()` extrapolates to the edges of the window, and 8 answers of a short run become 9. It is left for a series
    that began again at 0 in the window, of which first and last do not tell the gain.

    Args:
        counter: a selector, such as `x_total{$scope}`.
        window: a PromQL duration or Grafana's variable for one.
    """
    over = f"({counter}[{window}])"
    return f"(max_over_time{over} - min_over_time{over} and resets{over} == 0 or increase{over})"


def count(by: str, counter: str, window: str = RANGE) -> str:
    """Return the whole number of what was counted in a window, by labels such as `arm, node`."""
    return f"round(sum by ({by}) ({gained(counter, window)}))"
