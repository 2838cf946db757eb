"""Three witnesses of the hit rate: they must be able to disagree, and what was not told is never zero."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stubs.run import call, measured, run_of
from workload.analysis.cache import witnesses

ARM = "prefix-on"


def test_witnesses_agree_to_the_token() -> None:
    """The bar: counters equal responses exactly, and the bound equals both on every call."""
    windows = [measured(hits=64, queries=100), measured(block=1, hits=96, queries=120)]
    calls = [call(1), call(2, prompt_tokens=120, cached_tokens=96, reusable_tokens=96)]
    found = witnesses(run_of(windows, calls), ARM)
    assert found["agree_to_the_token"] is True
    assert found["counters"]["hit_rate"] == found["responses"]["hit_rate"] == found["bound"]["hit_rate"] == 160 / 220
    assert (found["calls"], found["calls_equal_to_bound"], found["differences"]) == (2, 2, [])


@pytest.mark.parametrize(("hits", "queries"), [(63, 100), (64, 101), (0, 0)])
def test_one_token_of_difference_shows(hits: int, queries: int) -> None:
    """A rounded comparison would hide a scrape that came too early."""
    found = witnesses(run_of([measured(hits=hits, queries=queries)], [call(1)]), ARM)
    assert found["agree_to_the_token"] is False


def test_caching_off_is_said_in_words() -> None:
    """With caching off vLLM counts nothing; 0 % would read as a cache that does not work."""
    window = measured(caching=False, hits=0, queries=0)
    found = witnesses(run_of([window], [call(1, cached_tokens=0)]), ARM)
    assert found["prefix_caching"] == "caching off"
    assert found["counters"]["hit_rate"] is None
    assert found["responses"]["hit_rate"] is None
    assert found["agree_to_the_token"] is None
    assert found["calls_equal_to_bound"] is None
    assert found["bound"]["hit_rate"] == 0.64


@pytest.mark.parametrize("windows", [[], [measured(caching=None)], [measured(), measured(caching=False)]])
def test_an_unknown_state_is_neither_on_nor_off(windows: list[Any]) -> None:
    """An engine that does not say, or arms that changed in between, must not pass for a proved arm."""
    assert witnesses(run_of(windows, [call(1)]), ARM)["prefix_caching"] == "not known"


def test_what_was_not_told_is_not_compared() -> None:
    """No counters and no cached tokens are two unknowns, and two unknowns do not agree."""
    calls = [call(1, cached_tokens=None, reusable_tokens=None)]
    found = witnesses(run_of([measured()], calls), ARM)
    assert found["agree_to_the_token"] is None
    assert found["counters"] == {"hits": None, "queries": None, "hit_rate": None}
    assert found["responses"] == {"cached_tokens": None, "hit_rate": None}
    assert found["calls_equal_to_bound"] == 0
    assert [difference["cause"] for difference in found["differences"]] == ["not told by the server"]


@pytest.mark.parametrize(
    ("other", "parts", "cause"),
    [
        (9, {"cached_tokens": 32}, "eviction"),
        (9, {"cached_tokens": 96}, "unknown: more cached than the bound allows"),
        (1, {"cached_tokens": 32}, "arrival order: another call was in prefill at the same time"),
        (9, {"reusable_tokens": None}, "not told by the server"),
    ],
)
def test_each_difference_is_listed_with_its_cause(other: int, parts: dict[str, Any], cause: str) -> None:
    """Less than 1 % may differ at higher concurrency, but not without a word about why."""
    neighbour = call(2, started_at=call(other)["started_at"] + 0.2)
    found = witnesses(run_of([measured(hits=0, queries=0)], [call(1, node="generate", **parts), neighbour]), ARM)
    assert found["calls_equal_to_bound"] == 1
    (difference,) = found["differences"]
    assert (difference["node"], difference["cause"]) == ("generate", cause)


def test_only_calls_of_closed_windows_and_of_the_arm_count() -> None:
    """A call of an interrupted window, of the other arm, or one that failed is in no counter of this window."""
    calls = [
        call(1),
        call(2, is_windowed=False),
        call(3, arm="prefix-off"),
        call(4, outcome="failed", prompt_tokens=None, cached_tokens=None),
    ]
    found = witnesses(run_of([measured(hits=64, queries=100)], calls), ARM)
    assert (found["calls"], found["agree_to_the_token"]) == (1, True)
