"""Three measurements of the hit rate: they must be able to disagree, and a missing value is never zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.stubs.run import call, measured, run_of
from workload.analysis.cache import hit_rates
from workload.fleet.account import FATES

ARM = "prefix-on"


def test_witnesses_agree_to_the_token() -> None:
    """The bar: counters equal responses exactly, and the bound equals both on every call."""
    windows = [measured(hits=64, queries=100), measured(block=1, hits=96, queries=120)]
    calls = [call(1), call(2, prompt_tokens=120, cached_tokens=96, reusable_tokens=96)]
    found = hit_rates(run_of(windows, calls), ARM)
    assert found["agree_to_the_token"] is True
    assert found["counters"]["hit_rate"] == found["responses"]["hit_rate"] == found["bound"]["hit_rate"] == 160 / 220
    assert (found["calls"], found["calls_equal_to_bound"], found["differences"]) == (2, 2, [])


@pytest.mark.parametrize(("hits", "queries"), [(63, 100), (64, 101), (0, 0)])
def test_one_token_of_difference_shows(hits: int, queries: int) -> None:
    """A rounded comparison would hide a scrape that came too early."""
    found = hit_rates(run_of([measured(hits=hits, queries=queries)], [call(1)]), ARM)
    assert found["agree_to_the_token"] is False


def test_caching_off_is_said_in_words() -> None:
    """With caching off vLLM counts nothing; 0 % would read as a cache that does not work."""
    window = measured(caching=False, hits=0, queries=0)
    found = hit_rates(run_of([window], [call(1, cached_tokens=0)]), ARM)
    assert found["prefix_caching"] == "caching off"
    assert found["counters"]["hit_rate"] is None
    assert found["responses"]["hit_rate"] is None
    assert found["agree_to_the_token"] is None
    assert found["calls_equal_to_bound"] is None
    assert found["bound"]["hit_rate"] == 0.64
    # responses without counters leave nothing unknown, least of all -100 tokens
    assert found["unknown"] == {"calls": 0, "cached_tokens": None, "prompt_tokens": None}


@pytest.mark.parametrize("windows", [[], [measured(caching=None)], [measured(), measured(caching=False)]])
def test_an_unknown_state_is_neither_on_nor_off(windows: list[Any]) -> None:
    """An engine that does not say, or arms that changed in between, must not pass for a proved arm."""
    assert hit_rates(run_of(windows, [call(1)]), ARM)["prefix_caching"] == "not known"


def test_what_was_not_reported_is_not_compared() -> None:
    """No counters and no cached tokens are two unknowns, and two unknowns do not agree."""
    calls = [call(1, cached_tokens=None, reusable_tokens=None)]
    found = hit_rates(run_of([measured()], calls), ARM)
    assert found["agree_to_the_token"] is None
    assert found["counters"] == {"hits": None, "queries": None, "hit_rate": None}
    assert found["responses"] == {"cached_tokens": None, "hit_rate": None}
    assert found["calls_equal_to_bound"] == 0
    assert [difference["cause"] for difference in found["differences"]] == ["not reported by the server"]


@pytest.mark.parametrize(
    ("other", "parts", "cause"),
    [
        (9, {"cached_tokens": 32}, "unknown: no KV cache events say whether its blocks were evicted"),
        (9, {"cached_tokens": 96}, "unknown: more cached than the bound allows"),
        (1, {"cached_tokens": 32}, "arrival order: another call was in prefill at the same time"),
        (9, {"reusable_tokens": None}, "not reported by the server"),
    ],
)
def test_each_difference_is_listed_with_its_cause(other: int, parts: dict[str, Any], cause: str) -> None:
    """Less than 1 % may differ at higher concurrency, but not without a word about why."""
    neighbour = call(2, started_at=call(other)["started_at"] + 0.2)
    found = hit_rates(run_of([measured(hits=0, queries=0)], [call(1, node="generate", **parts), neighbour]), ARM)
    assert found["calls_equal_to_bound"] == 1
    (difference,) = found["differences"]
    assert (difference["node"], difference["cause"]) == ("generate", cause)


@pytest.mark.parametrize(
    ("fates", "cause"),
    [
        ({"evicted": 32}, "tokens had been evicted"),
        ({"elsewhere": 32, "evicted": 16}, "tokens were on another engine"),
        ({"unknown": 32}, "unknown: no KV cache events say whether its blocks were evicted"),
        ({}, "unknown: no KV cache events say whether its blocks were evicted"),
    ],
)
def test_a_cause_needs_evidence(fates: dict[str, int], cause: str) -> None:
    """A miss on another replica was once called an eviction, by arithmetic alone; nothing had been evicted."""
    row = {**dict.fromkeys(FATES, 0), "hit": 32, "tail": 4, "cold": 100, **fates}
    found = hit_rates(run_of([measured(hits=0, queries=0)], [call(1, cached_tokens=32, fates=row)]), ARM)
    assert [difference["cause"] for difference in found["differences"]] == [cause]


CUT = {"outcome": "failed", "prompt_tokens": None, "cached_tokens": None, "reusable_tokens": None}


@pytest.mark.parametrize(
    ("hits", "queries", "agrees"),
    [
        (128, 200, True),  # the engine never saw it
        (192, 300, None),  # it counted 100 tokens of it, 64 of them hits
        (128, 201, None),
        (127, 300, False),  # fewer hits than the responses reported: no cut call takes any away
        (128, 199, False),
        (229, 300, False),  # more hits than there are tokens left
    ],
)
def test_row_26_one_cut_call_is_no_disagreement(hits: int, queries: int, agrees: bool | None) -> None:
    """Its tokens are unknown: the rest is exact to the token, and the uncertainty is stated."""
    data = run_of([measured(hits=hits, queries=queries)], [call(1), call(2), call(3, **CUT)])
    found = hit_rates(data, ARM)
    assert found["agree_to_the_token"] is agrees
    assert found["unknown"] == {"calls": 1, "cached_tokens": hits - 128, "prompt_tokens": queries - 200}


@pytest.mark.parametrize("hits", [63, 65])
def test_without_a_cut_call_nothing_is_waved_through(hits: int) -> None:
    """The allowance is for what is unknown, not for a scrape that came too early."""
    assert hit_rates(run_of([measured(hits=hits, queries=100)], [call(1)]), ARM)["agree_to_the_token"] is False


def test_a_warm_up_within_a_window_is_counted_by_the_engine_alone() -> None:
    """After a restart the cache is warmed again, in mid-window: known tokens, and none of the questions'."""
    window = measured(hits=64, queries=150)
    warm_up = call(9, started_at=window.window.start + 5.0, prompt_tokens=50, cached_tokens=0)
    before = call(9, started_at=window.window.start - 5.0, prompt_tokens=50, cached_tokens=0)
    data = replace(run_of([window], [call(1)]), uncounted=[warm_up, before])
    found = hit_rates(data, ARM)
    assert found["agree_to_the_token"] is True
    assert found["besides"] == {"calls": 1, "prompt_tokens": 50, "cached_tokens": 0}
    data = replace(data, uncounted=[{**warm_up, **CUT}])
    assert hit_rates(data, ARM)["agree_to_the_token"] is None


def test_only_calls_of_closed_windows_and_of_the_arm_count() -> None:
    """A call of an interrupted window, of the other arm, or one that failed is in no counter of this window."""
    calls = [
        call(1),
        call(2, is_windowed=False),
        call(3, arm="prefix-off"),
        call(4, outcome="failed", prompt_tokens=None, cached_tokens=None),
    ]
    found = hit_rates(run_of([measured(hits=64, queries=100)], calls), ARM)
    assert (found["calls"], found["agree_to_the_token"]) == (1, True)
