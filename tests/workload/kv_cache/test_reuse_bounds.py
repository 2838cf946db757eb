"""The bound under a pool and under load: an order that no agent could send, or another pool, proves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.agent.prompts import LAYOUTS
from workload.kv_cache.reuse_bounds import (
    compared_with_engine,
    eviction_steps,
    in_pool,
    interleaved,
    reusable_by_call,
    uncached_by_question,
)
from workload.kv_cache.source import SentCall
from workload.record.manifest import EngineEntry
from workload.theory.structure import AgentCall

if TYPE_CHECKING:
    from tests.workload.kv_cache.conftest import Simulation

ENGINE = EngineEntry(block_size=2, num_gpu_blocks=64, prefix_caching=True)
QUESTIONS = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def call(question: str, prompt: list[int], salt: str = "", cached: int | None = None) -> SentCall:
    """Return a call of a question."""
    return SentCall(
        AgentCall(question, "decide", 1, prompt, (), salt=salt), reusable_tokens=cached, cached_tokens=cached
    )


@given(QUESTIONS, st.integers(1, 8))
def test_interleaving_keeps_each_questions_order(lengths: list[int], in_flight: int) -> None:
    """A question's next prompt contains the reply to the one before: it cannot be sent earlier, nor meanwhile."""
    calls = [call(str(question), [question, turn]) for question, count in enumerate(lengths) for turn in range(count)]
    order = interleaved(calls, in_flight)
    assert sorted(order, key=lambda sent: tuple(sent.call.prompt)) == calls
    open_now: set[str] = set()
    for position, sent in enumerate(order):
        open_now.add(sent.call.question)
        assert len(open_now) <= in_flight
        earlier = [other.call.prompt[1] for other in order[:position] if other.call.question == sent.call.question]
        assert earlier == list(range(sent.call.prompt[1]))
        if sent.call.prompt[1] + 1 == lengths[sent.call.prompt[0]]:
            open_now.remove(sent.call.question)
    if in_flight == 1:
        assert order == calls


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_largest_pool_gives_the_bound(simulation: Simulation, layout: str) -> None:
    """A curve that ends elsewhere than the bound says that one of the two is wrong."""
    calls = simulation.arms[layout]
    steps = eviction_steps(calls, 16)
    share = sum(reusable_by_call(calls, 16)) / sum(len(sent.call.prompt) for sent in calls)
    assert steps[-1]["evicted_blocks"] == 0
    assert steps[-1]["share"] == pytest.approx(share)
    assert all(step["evicted_blocks"] for step in steps[:-1])
    assert all(step["share"] <= share + 1e-12 for step in steps)


def test_a_pool_too_small_for_the_load_loses_what_appending_gains(simulation: Simulation) -> None:
    """With many questions in flight each needs its own blocks; a curve of sequential calls alone would promise more."""
    calls = simulation.arms["append-only"]
    one, many = (eviction_steps(interleaved(calls, count), 16)[0]["share"] for count in (1, 6))
    assert many < one


def test_each_engine_start_begins_empty() -> None:
    """The second start of ABBA finds nothing of the first; one pool over both would count it as reuse."""
    prompts = [list(range(8)), list(range(8))]
    within = [call("q", prompt, "0/c1/0") for prompt in prompts]
    apart = [call("q", prompt, f"{block}/c1/0") for block, prompt in enumerate(prompts)]
    assert in_pool(within, 2, None) == (6 / 16, 0)
    assert in_pool(apart, 2, None) == (0, 0)


def test_a_pool_that_cannot_hold_a_call_has_no_share() -> None:
    """Such an engine would refuse the call; zero would be a measurement."""
    assert in_pool([call("q", list(range(8)))], 2, 3) == (None, 0)


def test_a_question_that_was_asked_twice_counts_once() -> None:
    """Arms have as many starts as the order gives them; tokens a question must not grow with them."""
    calls = [call("q", [1, 2, 3], "0"), call("q", [1, 2, 3, 4], "0"), call("q", [1, 2, 3], "1"), call("r", [5], "0")]
    assert uncached_by_question(calls, [0, 2, 0, 0]) == {"q": (5 + 3) / 2, "r": 1}


def test_what_the_engine_reports_is_compared_with_the_model() -> None:
    """The one check of the bound against a real cache, so both must be of the same calls."""
    calls = [call("q", [1, 2, 3], cached=0), call("q", [1, 2, 3, 4, 5], cached=2)]
    reusable = reusable_by_call(calls, 2)
    assert compared_with_engine(calls, reusable, 2, ENGINE) == {
        "prefix_caching": True,
        "compared_calls": 2,
        "equal_to_run": 2,
        "equal_to_engine": 2,
        "cached_share": 2 / 8,
        "kv_block_bytes": None,
        "num_gpu_blocks": 64,
        "modelled_share": 2 / 8,
    }
    assert compared_with_engine(calls, [0, 4], 2, ENGINE)["equal_to_run"] == 1  # type: ignore[index]


def test_what_the_engine_did_not_report_is_absent() -> None:
    """With caching off vLLM counts nothing, and an engine without facts is no engine without a cache."""
    calls = [call("q", [1, 2, 3], cached=0)]
    off = compared_with_engine(calls, [0], 2, EngineEntry(block_size=2, prefix_caching=False))
    assert off is not None
    assert (off["cached_share"], off["equal_to_engine"], off["modelled_share"]) == (None, None, None)
    omitted = compared_with_engine([call("q", [1, 2, 3])], [0], 2, ENGINE)
    assert omitted is not None
    assert (omitted["cached_share"], omitted["compared_calls"]) == (None, 0)
    assert compared_with_engine(calls, [0], 2, None) is None
