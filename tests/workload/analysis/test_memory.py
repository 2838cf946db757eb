"""Memory over time has edges, gaps and plateaus; each has a way to be read wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.analysis.memory import (
    blocks_of,
    during,
    expected_fragmentation,
    fragmentation,
    peak,
    refresh_seconds,
    sampling,
    spread,
    where_of,
    without_prefill,
)
from workload.analysis.time_series import TimeSeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.record.results import Row


def line(*values: float, step: float = 1.0) -> TimeSeries:
    """Return a line from time 0 on."""
    return TimeSeries(np.arange(len(values)) * step, np.array(values, dtype=np.float64))


def visit(node: str, start: float, end: float, hop: int = 1) -> Row:
    """Return a row of a visit."""
    return {"node": node, "hop": hop, "question_id": "q", "started_at": start, "duration_seconds": end - start}


def call(start: float, prefill: float, prompt: int, completion: int) -> Row:
    """Return a row of a call that makes a token a second after its first."""
    return {
        **visit("decide", start, start + prefill + completion),
        "ttft_seconds": prefill,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "outcome": "ok",
    }


def test_the_first_of_equal_peaks_is_reported_and_how_long_it_lasted() -> None:
    """On a plateau the last or the middle sample would be as good, and no node made it."""
    top = peak(line(1, 3, 3, 3, 2), [visit("decide", 1, 2), visit("generate", 2, 4)], origin=-10)
    assert top == {
        "value": 3,
        "seconds": 11,
        "node": "decide",
        "hop": 1,
        "question_id": "q",
        "time_at_peak": pytest.approx(0.6),
    }
    assert where_of(top) == "first in decide, hop 1, and for 60% of the time"


def test_a_peak_outside_of_every_visit_has_no_node() -> None:
    """Credited to the nearest node it would be the trap of the label that is set too late."""
    assert (peak(line(1, 9, 1), [visit("decide", 0, 1)], 0) or {})["node"] is None
    assert (peak(line(1, 9, 1), [visit("a", 0, 3), visit("b", 1, 2)], 0) or {})["node"] is None
    assert peak(TimeSeries.empty(), [], 0) is None


def test_absent_values_are_not_zero() -> None:
    """An engine without the metric has no spread at all, not one around 0."""
    assert spread(np.empty(0)) == {"n": 0}
    assert spread(np.array([np.nan, 2.0]))["min"] == 2.0


def test_short_stretches_show_nothing() -> None:
    """A value that happens to be scraped within 20 ms says nothing about these 20 ms."""
    found = during(line(*range(10), step=0.1), [(0.25, 0.27), (0.5, 0.8)], shortest=0.1)
    assert (found["stretches"], found["long_enough"], found["n"]) == (2, 1, 3)


def test_a_lagging_value_is_left_out_at_the_start() -> None:
    """A duty cycle describes the period before: the first of a phase belongs to the phase before it."""
    assert during(line(0, 0, 1, 1, 1), [(1, 5)], shortest=0, lag=1)["min"] == 1


@given(st.floats(0.001, 1.0), st.integers(3, 200))
def test_steady_sampling_matches_what_it_achieves(interval: float, count: int) -> None:
    """Refusing an honest sampler would stop every run; taking a tenth of the rate would hide its peaks."""
    times = np.arange(count) * interval
    assert sampling(times, interval)["matches"]
    assert not sampling(times, interval / 10)["matches"]
    assert sampling(times, interval)["rate_hertz"] == pytest.approx(1 / interval)


def test_gaps_are_reported_even_where_the_median_is_right() -> None:
    """A sampler that is on time but for one pause of half a second must show that pause."""
    times = np.concatenate([np.arange(0, 1, 0.01), np.arange(1.5, 2.5, 0.01)])
    found = sampling(times, 0.01)
    assert found["matches"]
    assert found["gap_max_seconds"] == pytest.approx(0.51)


def test_the_refresh_period_is_seen_through_equal_values() -> None:
    """Polled every 10 ms, renewed every 200 ms, and every other renewal brings the same value."""
    values = np.repeat([0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 0], 20)
    assert refresh_seconds(line(*values, step=0.01)) == pytest.approx(0.2)
    assert refresh_seconds(line(1, 1, 1)) is None


def test_without_prefill_drops_only_what_the_engine_could_not_know() -> None:
    """While another call generates, the engine steps and its gauge is fresh, prefill of a second call or not."""
    first, second = call(0, 2, 100, 4), call(3, 2, 100, 4)
    kept = without_prefill(line(*range(12)), [first])
    assert kept.times.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert without_prefill(line(*range(12)), [first, second]).times.tolist() == kept.times.tolist()


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(2, 60)), min_size=1, max_size=6), st.sampled_from([1, 16, 32])
)
def test_fragmentation_is_that_of_the_tokens(sizes: Sequence[tuple[int, int]], block_size: int) -> None:
    """Derived from an engine that allocates by need, it must be what rounding up leaves, at every instant."""
    calls, blocks, generated, expected, start = [], [0.0], [7.0], [], 1.0
    for prompt, completion in sizes:
        calls.append(call(start, 1.0, prompt, completion))
        blocks.append(0.0)  # the prefill
        generated.append(generated[-1])
        for made in range(1, completion + 1):
            live = prompt + made - 1
            blocks.append(float(blocks_of(live, block_size)))
            generated.append(generated[-1] + 1)
            expected.append(1 - live / (blocks_of(live, block_size) * block_size))
        start += 1.0 + completion
    found, _ = fragmentation(line(*blocks), line(*generated), calls, block_size)
    assert found.values == pytest.approx(expected)
    assert ((found.values >= 0) & (found.values < 1)).all()
    assert expected_fragmentation(calls, block_size) == pytest.approx(np.mean(expected))


def test_a_failed_call_s_tokens_do_not_shift_the_next() -> None:
    """Its tokens are in the engine's counter and in no response; carried on, they make the next call too long."""
    after = call(10, 2, 31, 2)
    generated = line(0, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 7)
    blocks = line(0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1)
    found, _ = fragmentation(blocks, generated, [after], 32)
    assert found.values.tolist() == [1 - 31 / 32, 0.0]


def test_a_prompt_of_no_tokens_takes_no_block() -> None:
    """A server may say so of one call, and the report of all the others must not divide by its blocks."""
    assert expected_fragmentation([call(0, 1, 0, 3)], 4) == pytest.approx(1 - 1.5 / 4)
    assert expected_fragmentation([call(0, 1, 0, 1)], 4) is None
