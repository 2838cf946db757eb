"""Cached tokens that a response omits count as 0 only where the engine's counter confirms it."""

from __future__ import annotations

import pytest

from tests.stubs.run import call, measured, run_of
from workload.analysis.cache import hit_rates
from workload.analysis.cache_inferred import settle

PLACED = {"block": 0, "phase": "c1", "segment": 0}


def cached(*reported: int | None, hits: float | None = None, caching: bool | None = True) -> list[int | None]:
    """Return the cached tokens after settling calls that reported these, given a counter of hits."""
    rows = [call(number, cached_tokens=tokens, **PLACED) for number, tokens in enumerate(reported)]
    return [row["cached_tokens"] for row in settle(run_of([measured(hits=hits, caching=caching)], rows)).calls]


def test_what_the_counter_leaves_no_hits_for_is_zero() -> None:
    """VLLM 0.22 omits the field where it cached nothing; without this a whole run loses its uncached tokens."""
    assert cached(None, 64, 32, hits=96) == [0, 64, 32]


@pytest.mark.parametrize("hits", [128.0, None])
def test_what_the_counter_does_not_account_for_stays_unknown(hits: float | None) -> None:
    """The call without the field may be the one with the other 32 tokens."""
    assert cached(None, 64, 32, hits=hits) == [None, 64, 32]


def test_a_server_that_says_nothing_at_all_stays_unknown() -> None:
    """Without --enable-prompt-tokens-details an idle counter is no proof of anything about a call."""
    assert cached(None, None, hits=0) == [None, None]


def test_with_caching_off_nothing_is_cached() -> None:
    """Caching was proved to be off, so every prompt token was computed; an arm without that proof shows nothing."""
    assert cached(None, None, hits=0, caching=False) == [0, 0]
    assert cached(None, None, caching=None) == [None, None]


def test_the_summary_says_how_many_were_inferred() -> None:
    """A reader must see that part of the agreement is inference."""
    rows = [call(0, cached_tokens=None, reusable_tokens=0, **PLACED), call(1, **PLACED)]
    reported = hit_rates(settle(run_of([measured(hits=64, queries=200)], rows)), "prefix-on")
    assert reported["inferred_calls"] == 1
    assert reported["calls_equal_to_bound"] == 2
    assert reported["agree_to_the_token"] is True
