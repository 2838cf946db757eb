"""Paired comparison: each question is compared with itself, and an interval covers as often as it says."""

from __future__ import annotations

import numpy as np

from workload.analysis.paired import LEVEL, MIN_PAIRS, compare, median_ci

RUNS = 200


def test_the_interval_covers_a_planted_change() -> None:
    """Twenty questions, as a run has by default, and a true change of -30 %: 95 % of the intervals hold it.

    The bound allows four standard errors of this simulation and the few points by which bootstrap percentile intervals
    of a median fall short at this size.
    """
    chance = np.random.default_rng(7)
    covered = 0
    for _ in range(RUNS):
        ratios = 0.7 * np.exp(chance.normal(0, 0.3, 20)) - 1
        interval = median_ci(ratios)
        assert interval
        covered += interval[0] <= -0.3 <= interval[1]
    assert abs(covered / RUNS - LEVEL) < 4 * (LEVEL * (1 - LEVEL) / RUNS) ** 0.5


def test_pairing_finds_what_medians_alone_would_not() -> None:
    """Questions differ tenfold in length; only against itself does a question show a change of 5 %."""
    chance = np.random.default_rng(3)
    a = {str(number): float(seconds) for number, seconds in enumerate(chance.lognormal(1, 1, 30))}
    b = {key: seconds * 0.95 * float(np.exp(chance.normal(0, 0.01))) for key, seconds in a.items()}
    found = compare(a, b)
    assert found.a_ci
    assert found.change_ci
    assert found.b
    assert found.a_ci[0] < found.b < found.a_ci[1]
    assert -0.06 < found.change_ci[0] < found.change_ci[1] < -0.04


def test_only_questions_of_both_arms_count() -> None:
    """A question that failed in one arm must not shift the other's median."""
    found = compare({"a": 1.0, "b": 2.0, "c": 3.0, "x": 900.0}, {"a": 2.0, "b": 4.0, "c": 6.0, "y": 0.0})
    assert (found.n, found.a, found.b, found.change) == (3, 2.0, 4.0, 1.0)


def test_too_few_pairs_have_no_interval() -> None:
    """Four values cannot carry a 95 % interval of a median; a number in its place would look like one."""
    values = {str(number): float(number + 1) for number in range(MIN_PAIRS)}
    fewer = dict(list(values.items())[1:])
    assert compare(fewer, fewer).change_ci is None
    assert compare(values, values).change_ci == (0.0, 0.0)


def test_a_question_that_cost_nothing_has_no_ratio() -> None:
    """A value of zero in the first arm allows a difference but no share; it must not turn into infinity."""
    found = compare({"a": 0.0, "b": 2.0}, {"a": 5.0, "b": 1.0})
    assert (found.n, found.change) == (2, -0.5)
    assert compare({"a": 0.0}, {"a": 5.0}).change is None


def test_arms_without_a_common_question_are_no_comparison() -> None:
    """All questions of an arm may have failed; the run's other findings are then needed all the more."""
    found = compare({"a": 1.0}, {"b": 1.0})
    assert (found.n, found.a, found.b, found.change, found.change_ci) == (0, None, None, None, None)


def test_the_same_data_give_the_same_interval() -> None:
    """A report made again from the same run must not differ from the first."""
    values = np.random.default_rng(0).normal(size=12)
    assert median_ci(values) == median_ci(values)
