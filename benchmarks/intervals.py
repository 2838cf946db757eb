"""How often a 95 % interval of few values holds a planted truth: of medians, of means, and of answers a second.

Usage: python benchmarks/intervals.py [DATA_SETS]

The bootstrap stands beside the interval that is used: it resamples what it has, and of six values that is little.
"""

from __future__ import annotations

import platform
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from workload.statistics.paired import mean_ci, median_ci
from workload.statistics.resampling import percentile_interval
from workload.statistics.throughput import Request, full_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workload.statistics.paired import Interval

    Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]

DATA_SETS, RESAMPLES = 2_000, 999
SIZES = (6, 8, 12, 20, 128)
# name, values, their median, their mean
PLANTED: tuple[tuple[str, Draw, float, float], ...] = (
    ("normal", lambda rng, n: rng.normal(0, 1, n), 0.0, 0.0),
    ("lognormal, 0.6", lambda rng, n: rng.lognormal(0, 0.6, n), 1.0, float(np.exp(0.18))),
    ("exponential", lambda rng, n: rng.exponential(1, n), float(np.log(2)), 1.0),
    ("Student's t, 2", lambda rng, n: rng.standard_t(2, n), 0.0, 0.0),
)


def bootstrapped(
    values: NDArray[np.float64], statistic: Callable[..., NDArray[np.float64]], rng: np.random.Generator
) -> Interval:
    """Return the percentile bootstrap's interval."""
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    return percentile_interval(statistic(values[drawn], axis=1))


def values(data_sets: int, rng: np.random.Generator) -> None:
    """Print the coverage for medians and for means."""
    print("\n| values | n | median: ours | bootstrap | width, ours / bootstrap | mean: ours | bootstrap |")
    print("|---|---|---|---|---|---|---|")
    for name, draw, middle, mean in PLANTED:
        for n in SIZES:
            held = np.zeros(4)
            widths = np.zeros(2)
            for _ in range(data_sets):
                sample = draw(rng, n)
                bounds = (
                    median_ci(sample),
                    bootstrapped(sample, np.median, rng),
                    mean_ci(sample),
                    bootstrapped(sample, np.mean, rng),
                )
                for place, (found, truth) in enumerate(zip(bounds, (middle, middle, mean, mean), strict=True)):
                    assert found
                    held[place] += found[0] <= truth <= found[1]
                    if place < 2:
                        widths[place] += found[1] - found[0]
            told = [f"{share / data_sets:.1%}" for share in held]
            print(f"| {name} | {n} | {told[0]} | {told[1]} | {widths[0] / widths[1]:.2f} | {told[2]} | {told[3]} |")


def rates(data_sets: int, rng: np.random.Generator) -> None:
    """Print the bias and the coverage of answers a second; workers take lognormal time and share one list."""
    print("\n| workers | questions | spread | bias | ours | bootstrap |")
    print("|---|---|---|---|---|---|")
    for workers, questions in ((1, 6), (1, 8), (1, 20), (4, 12), (8, 24), (64, 192), (16, 320)):
        for spread in (0.2, 0.4):
            bias, ours, theirs = [], [], []
            for _ in range(data_sets):
                level = full_level(shared_list(workers, rng.lognormal(-(spread**2) / 2, spread, questions)))
                assert level
                assert level.interval
                bias.append(level.throughput / workers - 1)
                ours.append(level.interval[0] <= workers <= level.interval[1])
                low, high = percentile_interval(level.resampled_throughput(RESAMPLES, rng))
                theirs.append(low <= workers <= high)
            print(
                f"| {workers} | {questions} | {spread} | {np.mean(bias):+.1%} | {np.mean(ours):.1%} "
                f"| {np.mean(theirs):.1%} |"
            )


def shared_list(workers: int, durations: NDArray[np.float64]) -> list[list[Request]]:
    """Return the requests of workers that take the next one of a list as soon as they are free."""
    edges: list[list[float]] = [[0.0] for _ in range(workers)]
    for seconds in durations:
        free = min(edges, key=lambda mine: mine[-1])
        free.append(free[-1] + float(seconds))
    return [[Request(*pair) for pair in pairwise(mine)] for mine in edges]


def main() -> None:
    """Print the tables."""
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else DATA_SETS
    rng = np.random.default_rng(0)
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {data_sets} data sets a row")
    values(data_sets, rng)
    rates(data_sets, rng)


if __name__ == "__main__":
    main()
