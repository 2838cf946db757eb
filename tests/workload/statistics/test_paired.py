"""Paired comparison: each question is compared with itself, and an interval covers as often as it says."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.statistics.paired import LEVEL, MIN_PAIRS, compare, mean_ci, median_ci

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RUNS = 2_000
# The median of each is 0.
PLANTED: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]] = {
    "normal": lambda chance, size: chance.normal(size=size),
    "skewed": lambda chance, size: chance.exponential(size=size) - np.log(2),
    "heavy": lambda chance, size: chance.standard_t(2, size=size),
    "ratios": lambda chance, size: np.exp(chance.normal(0, 0.3, size)) - 1,
}


@pytest.mark.parametrize("count", [6, 8, 12, 20])
@pytest.mark.parametrize("kind", PLANTED)
def test_row_26_the_interval_covers_a_planted_median(kind: str, count: int) -> None:
    """At the sizes that runs have: the percentile bootstrap contained it in 91 to 95 % and called that 95.

    The bound allows three standard errors of this simulation and half a point, which the interpolation may be off.
    """
    held = []
    for values in PLANTED[kind](np.random.default_rng(7), (RUNS, count)):
        interval = median_ci(values)
        assert interval
        held.append(interval[0] <= 0 <= interval[1])
    assert abs(np.mean(held) - LEVEL) < 0.005 + 3 * (LEVEL * (1 - LEVEL) / RUNS) ** 0.5


@given(st.integers(MIN_PAIRS, 400))
def test_the_interval_lies_between_two_that_are_exact(count: int) -> None:
    """Order statistics bound a median by counting alone; interpolated, the interval must keep both of its bounds."""
    low, high = median_ci(np.arange(1.0, count + 1)) or (0.0, 0.0)
    assert low + high == pytest.approx(count + 1)
    outer = int(low)
    held = [sum(comb(count, hits) for hits in range(rank, count - rank + 1)) / 2**count for rank in (outer, outer + 1)]
    assert held[0] >= LEVEL > held[1]


def test_row_26_five_pairs_have_no_interval() -> None:
    """Their smallest and largest cover the median in 93.75 %: that was printed as 95 % once."""
    values = {str(number): float(number + 1) for number in range(6)}
    fewer = dict(list(values.items())[1:])
    assert compare(fewer, fewer)["change_ci"] is None
    assert compare(values, values)["change_ci"] == (0.0, 0.0)


@pytest.mark.parametrize("count", [6, 8, 12])
def test_the_interval_of_a_mean_covers_it(count: int) -> None:
    """F1 and uncached tokens are reported as means; a bootstrap of six contained them in 86 %."""
    held = []
    for values in np.random.default_rng(3).uniform(0, 1, (RUNS, count)):
        interval = mean_ci(values, (0, 1))
        assert interval
        assert 0 <= interval[0] < interval[1] <= 1
        held.append(interval[0] <= 0.5 <= interval[1])
    assert abs(np.mean(held) - LEVEL) < 0.01 + 3 * (LEVEL * (1 - LEVEL) / RUNS) ** 0.5
    assert mean_ci([1.0, 2.0, 3.0, 4.0, 5.0]) is None


def test_pairing_finds_what_medians_alone_would_not() -> None:
    """Questions differ tenfold in length; only against itself does a question show a change of 5 %."""
    chance = np.random.default_rng(3)
    a = {str(number): float(seconds) for number, seconds in enumerate(chance.lognormal(1, 1, 30))}
    b = {key: seconds * 0.95 * float(np.exp(chance.normal(0, 0.01))) for key, seconds in a.items()}
    found = compare(a, b)
    assert found["a_ci"]
    assert found["change_ci"]
    assert found["b"]
    assert found["a_ci"][0] < found["b"] < found["a_ci"][1]
    assert -0.06 < found["change_ci"][0] < found["change_ci"][1] < -0.04


def test_only_questions_of_both_arms_count() -> None:
    """A question that failed in one arm must not shift the other's median."""
    found = compare({"a": 1.0, "b": 2.0, "c": 3.0, "x": 900.0}, {"a": 2.0, "b": 4.0, "c": 6.0, "y": 0.0})
    assert (found["n"], found["a"], found["b"], found["change"]) == (3, 2.0, 4.0, 1.0)


def test_a_question_that_cost_nothing_has_no_ratio() -> None:
    """A value of zero in the first arm allows a difference but no share; it must not turn into infinity."""
    found = compare({"a": 0.0, "b": 2.0}, {"a": 5.0, "b": 1.0})
    assert (found["n"], found["shared"], found["change"]) == (1, 2, -0.5)
    assert (compare({"a": 0.0}, {"a": 5.0})["n"], compare({"a": 0.0}, {"a": 5.0})["change"]) == (0, None)


def test_the_number_of_a_change_counts_its_pairs() -> None:
    """Twenty questions of which four have a ratio: "20 questions are too few for an interval" was no reason."""
    a = {str(number): float(number < 4) for number in range(20)}
    found = compare(a, dict.fromkeys(a, 1.0))
    assert (found["n"], found["shared"], found["change_ci"]) == (4, 20, None)
    assert found["a_ci"]


def test_arms_without_a_common_question_are_no_comparison() -> None:
    """All questions of an arm may have failed; the run's other findings are then needed all the more."""
    found = compare({"a": 1.0}, {"b": 1.0})
    assert (found["n"], found["a"], found["b"], found["change"], found["change_ci"]) == (0, None, None, None, None)
