"""Each way in which reuse has been counted wrongly, on the agent's own calls, against the way that an engine counts.

The engine is `StubCache`: it searches whole sequences for the longest common prefix and knows no hashes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.stubs.engine import StubCache
from workload.agent.prompts import LAYOUTS
from workload.kv_cache.reuse_bounds import reusable_by_call
from workload.kv_cache.source import CallSource
from workload.kv_cache.summary import summarize
from workload.theory.reuse_bound import PrefixIndex
from workload.theory.structure import common_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.workload.kv_cache.conftest import Simulation
    from workload.corpus.tokenizer import ChatTokenizer
    from workload.kv_cache.source import SentCall


def served(calls: Sequence[SentCall], block_size: int, *, knows_outputs: bool = True) -> list[int]:
    """Return what the stub engine serves of each call from its cache."""
    cache, found = StubCache(block_size), []
    for sent in calls:
        prompt = list(sent.call.prompt)
        found.append(cache.arrive(prompt, sent.call.salt))
        if knows_outputs:
            cache.leave(prompt, sent.call.output, sent.call.salt)
    return found


def tokens_of(calls: Sequence[SentCall]) -> int:
    """Return all prompt tokens."""
    return sum(len(sent.call.prompt) for sent in calls)


@pytest.mark.parametrize("block_size", [1, 16, 32, 128])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bound_is_what_an_engine_serves(simulation: Simulation, layout: str, block_size: int) -> None:
    """To the token on every call: that is the bar where nothing is evicted."""
    calls = simulation.arms[layout]
    assert reusable_by_call(calls, block_size) == served(calls, block_size)


def test_pairs_count_a_prefix_again_and_again(simulation: Simulation) -> None:
    """The trap: summed over all pairs, a prefix that n calls share counts n(n-1)/2 times and "reuse" exceeds 100 %."""
    calls = simulation.arms["append-only"]
    prompts = [np.array(sent.call.prompt) for sent in calls]
    pairwise = sum(common_prefix(*pair) for pair in combinations(prompts, 2)) / tokens_of(calls)
    assert pairwise > 1
    assert sum(reusable_by_call(calls, 16)) / tokens_of(calls) < 1


def test_other_requests_count(simulation: Simulation) -> None:
    """The trap: a bound within each request alone hides the instructions that all requests share."""
    calls = simulation.arms["instructions-first"]
    alone = 0
    for question in {sent.call.question for sent in calls}:
        alone += sum(reusable_by_call([sent for sent in calls if sent.call.question == question], 16))
    assert alone < sum(reusable_by_call(calls, 16))


def test_the_template_counts(simulation: Simulation, tokenizer: ChatTokenizer) -> None:
    """The trap: the text of a prompt without its template is shorter than what the server computes."""
    calls = simulation.arms["original"]
    bare = sum(len(tokenizer.encode(message["content"])) for sent in calls for message in sent.messages)
    assert bare < tokens_of(calls)


def test_the_block_size_counts(simulation: Simulation) -> None:
    """The trap: a bound in single tokens promises what a cache of whole blocks cannot give."""
    calls = simulation.arms["original"]
    by_token, by_block = (sum(reusable_by_call(calls, size)) for size in (1, 32))
    assert by_block < by_token
    assert by_block == sum(served(calls, 32)) != by_token


def test_generated_tokens_count(simulation: Simulation) -> None:
    """The trap: prompts alone leave out the blocks that decoding has filled, which an appending layout finds again."""
    calls = simulation.arms["append-only"]
    index = PrefixIndex(16)
    without = sum(index.observe(sent.call.prompt) for sent in calls)
    assert without == sum(served(calls, 16, knows_outputs=False))
    assert without < sum(reusable_by_call(calls, 16))


def test_a_longer_prompt_games_the_rate(simulation: Simulation) -> None:
    """A preamble of 400 idle tokens raises the rate and saves nothing; what must be computed does not fall."""
    calls = simulation.arms["original"]
    padded = [padded_by(sent, 400) for sent in calls]
    rates = [sum(reusable_by_call(found, 16)) / tokens_of(found) for found in (calls, padded)]
    computed = [tokens_of(found) - sum(reusable_by_call(found, 16)) for found in (calls, padded)]
    assert rates[1] > 2 * rates[0]
    assert computed[1] >= computed[0]
    summary = summarize(CallSource(kind="simulated", origin="SIMULATED", arms={"plain": calls, "padded": padded}), None)
    change = summary["uncached_tokens_compared"]["padded"]["change"]
    assert change >= 0


def padded_by(sent: SentCall, tokens: int) -> SentCall:
    """Return a call whose prompt begins with the same `tokens` tokens as every other's."""
    return replace(sent, call=replace(sent.call, prompt=[7] * tokens + list(sent.call.prompt)))
