"""P99 of 20 requests is their maximum; an interval around it would be an invention."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from workload.statistics.percentiles import NEEDED, is_given, percentile, percentiles, quantile, ranks


@pytest.mark.parametrize(("p", "least"), [(0.50, 6), (0.95, 59), (0.99, 299)])
def test_the_smallest_sample_follows_from_the_level(p: float, least: int) -> None:
    """The README's flags are chosen by 59 and 299; one value fewer must give no interval."""
    assert ranks(least - 1, p) is None
    assert ranks(least, p) is not None


@given(st.integers(1, 400), st.sampled_from([0.05, 0.5, 0.95, 0.99]))
def test_ranks_exist_from_the_smallest_sample_on(n: int, p: float) -> None:
    """The threshold and the search for ranks are two derivations of one fact."""
    assert (ranks(n, p) is not None) == (1 - p**n - (1 - p) ** n >= 0.95)


@given(st.integers(6, 400), st.sampled_from([0.5, 0.95, 0.99]))
def test_ranks_hold_their_level_and_are_closest(n: int, p: float) -> None:
    """Fewer than 95 % would be a false claim; a closer pair that also suffices would mean wasted requests."""
    pair = ranks(n, p)
    if pair is None:
        return
    pmf = _binomial(n, p)
    low, high = pair
    assert pmf[low:high].sum() >= 0.95 - 1e-12
    width = high - low
    assert all(pmf[first : first + width - 1].sum() < 0.95 for first in range(1, n - width + 2))


def _binomial(n: int, p: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return P(K = 0..n), built by convolution so that it owes nothing to the library that the code uses."""
    pmf = np.ones(1)
    for _ in range(n):
        pmf = np.convolve(pmf, [1 - p, p])
    return pmf


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_the_value_is_one_that_was_measured(values: list[float]) -> None:
    """No interpolation: at least a share p lies at or below the value, and it lies inside its interval."""
    for found in percentiles(values):
        if found["value"] is None:
            continue
        assert found["value"] in values
        assert np.mean(np.array(values) <= found["value"]) >= found["p"] - 1e-9
        if found["ci"]:
            assert found["ci"][0] <= found["value"] <= found["ci"][1]


def test_twenty_requests_have_a_p95_without_an_interval_and_no_p99() -> None:
    """The P99 of twenty was their maximum under another name; the figure draws their P95 as a hollow point."""
    p50, p95, p99 = percentiles(range(1, 21))
    assert p50["ci"] == (6.0, 15.0)
    assert (p95["ci"], p95["value"]) == (None, 19)
    assert (p99["ci"], p99["value"]) == (None, None)


@pytest.mark.parametrize(("p", "least"), [(0.5, 1), (0.95, 20), (0.99, 100), (0.05, 20), (0.1, 10), (0.9, 10)])
def test_a_percentile_is_given_where_a_value_lies_beyond_it(p: float, least: int) -> None:
    """P95 of one, three or eight questions was printed and drawn; one rule for every place that shows a percentile."""
    assert not is_given(least - 1, p)
    assert is_given(least, p)
    few, enough = range(1, least), range(1, least + 1)
    assert quantile(few, p) is None
    assert quantile(enough, p) == pytest.approx(np.quantile(enough, p))
    if few:
        assert percentile(few, p)["value"] is None
    assert percentile(enough, p)["value"] is not None


@pytest.mark.parametrize(("p", "words"), [(0.95, "P95 needs 20"), (0.99, "P99 100")])
def test_the_words_are_of_the_rule(p: float, words: str) -> None:
    """The number that a message asks for must be the one that the rule wants."""
    assert words in NEEDED
    least = int(words.rsplit(maxsplit=1)[-1])
    assert is_given(least, p)
    assert not is_given(least - 1, p)


def test_exact_multiples_are_not_rounded_up() -> None:
    """Whole ranks stay whole: a last binary digit must not move the rank by one."""
    for n in range(20, 2_001, 20):
        assert percentile(range(1, n + 1), 0.95)["value"] == n * 95 // 100
    # As floats 0.07 x 100 is a little more than 7.
    assert percentile(range(1, 101), 0.07)["value"] == 7


def test_intervals_hold_the_truth_where_a_bootstrap_of_twenty_does_not() -> None:
    """The trap: resampling 20 values never sees beyond their maximum, so its interval for P99 is mostly wrong."""
    rng = np.random.default_rng(0)
    truth = float(-np.log(0.01))
    ours = [percentile(rng.exponential(size=299), 0.99)["ci"] for _ in range(200)]
    assert np.mean([ci is not None and ci[0] <= truth <= ci[1] for ci in ours]) >= 0.91
    wrong = []
    for _ in range(60):
        values = rng.exponential(size=20)
        drawn = bootstrap((values,), lambda x, axis: np.quantile(x, 0.99, axis=axis), n_resamples=199, rng=rng)
        wrong.append(drawn.confidence_interval.low <= truth <= drawn.confidence_interval.high)
    assert np.mean(wrong) < 0.6


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_no_values_are_no_percentile(values: list[float]) -> None:
    """Absent is not zero."""
    with pytest.raises(ValueError, match="needs at least one value"):
        percentile(values, 0.5)
