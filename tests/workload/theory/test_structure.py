"""Reuse that is added up over pairs counts one prefix again and again; the bound counts it once a call."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.errors import UsageError
from workload.theory.reuse_bound import PrefixIndex
from workload.theory.structure import BLOCK_SIZES, AgentCall, common_prefix, reuse_structure, shared_prefixes

ids = st.lists(st.integers(0, 2), max_size=14)
agent_calls = st.lists(
    st.builds(
        AgentCall,
        st.sampled_from(["q1", "q2", "q3"]),
        st.sampled_from(["decompose", "decide"]),
        st.integers(1, 2),
        ids,
        ids,
        salt=st.sampled_from(["", "salt"]),
    ),
    max_size=12,
)


def append_only(questions: int = 10, calls: int = 9) -> list[AgentCall]:
    """Return calls whose prompts begin with one preamble and with everything said before in their question."""
    rng = np.random.default_rng(0)
    found = []
    for question in range(questions):
        log = list(range(120))
        for turn in range(calls):
            log = [*log, *rng.integers(200, 49_152, 150).tolist()]
            node = ("decompose", "extract_clues", "decide")[turn % 3]
            found.append(AgentCall(str(question), node, turn // 3 + 1, log))
    return found


def bound_of(calls: list[AgentCall], block_size: int, *, by_question: bool) -> int:
    """Return the reusable tokens by `PrefixIndex`, the questions kept apart or not."""
    index, total = PrefixIndex(block_size), 0
    for call in calls:
        salt = f"{call.salt}/{call.question}" if by_question else call.salt
        total += index.observe(call.prompt, salt)
        index.observe_output(call.prompt, call.output, salt)
    return total


@given(agent_calls, st.integers(1, 4))
def test_the_bounds_are_those_of_the_live_index(calls: list[AgentCall], block_size: int) -> None:
    """The table and the number of every live call must be one and the same bound."""
    total, _ = reuse_structure(calls, block_size)
    assert total["reusable_tokens"] == bound_of(calls, block_size, by_question=False)
    assert total["within_request_tokens"] == bound_of(calls, block_size, by_question=True)


@given(agent_calls, st.integers(1, 4))
def test_within_and_across_are_parts_of_all(calls: list[AgentCall], block_size: int) -> None:
    """Each is a bound of its own below all of it, and together they reach it."""
    total, by_cell = reuse_structure(calls, block_size)
    for bound in (total, *by_cell.values()):
        assert max(bound["within_request_tokens"], bound["across_requests_tokens"]) <= bound["reusable_tokens"]
        assert bound["reusable_tokens"] <= bound["within_request_tokens"] + bound["across_requests_tokens"]
        assert 0 <= (bound["share"] or 0) <= 1
    assert sum(bound["uncached_tokens"] for bound in by_cell.values()) == total["uncached_tokens"]


def test_across_requests_is_the_bound_without_the_own_request() -> None:
    """Worked by hand: the second question finds the preamble of the first, and its own second call all of its first."""
    calls = [
        AgentCall("a", "decompose", 1, [1, 2, 3, 4, 5]),
        AgentCall("b", "decompose", 1, [1, 2, 3, 9, 9]),
        AgentCall("b", "decide", 1, [1, 2, 3, 9, 9, 9, 9]),
    ]
    total, by_cell = reuse_structure(calls, 1)
    assert (total["across_requests_tokens"], total["within_request_tokens"]) == (6, 5)
    assert total["reusable_tokens"] == 8
    assert by_cell["decide", 1]["reusable_tokens"] == 5


def test_the_last_generated_token_is_never_found() -> None:
    """It is sampled and not computed, so a log that goes on after it finds one token less than was said."""
    calls = [AgentCall("a", "decide", 1, [1, 2], [3, 4]), AgentCall("a", "decide", 2, [1, 2, 3, 4, 5])]
    assert reuse_structure(calls, 1)[0]["reusable_tokens"] == 3


def test_the_sum_over_pairs_would_be_several_hundred_percent() -> None:
    """The trap: a prefix shared by n calls is counted n(n - 1) / 2 times by pairs, and once a call by the bound."""
    calls = append_only()
    tokens = sum(len(call.prompt) for call in calls)
    pairs = sum(common_prefix(np.array(a.prompt), np.array(b.prompt)) for a, b in combinations(calls, 2))
    assert pairs / tokens > 3
    assert 0.8 < reuse_structure(calls, 1)[0]["share"] < 1


def test_larger_blocks_never_reuse_more() -> None:
    """Each size divides the next here, and a coarser block can only lose the rest of a prefix."""
    shares = [reuse_structure(append_only(3), size)[0]["share"] for size in BLOCK_SIZES]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_the_picture_shows_who_shares_with_whom() -> None:
    """Rows are earlier calls, columns later ones: a prompt that grew out of another shares all of the other with it."""
    calls = [
        AgentCall("a", "decompose", 1, [1, 2]),
        AgentCall("a", "decide", 1, [1, 2, 3, 4]),
        AgentCall("b", "decide", 1, [1, 9, 9, 9], salt="other"),
    ]
    picture = shared_prefixes(calls)
    assert picture.cells == (("decide", 1), ("decompose", 1))
    decide, decompose = 0, 1
    assert picture.share[decompose, decide] == pytest.approx((0.5 + 0.0) / 2)
    assert picture.share[decide, decide] == 0.0
    assert np.isnan(picture.share[decide, decompose])
    assert picture.pairs.sum() == 3


@given(agent_calls)
def test_the_picture_holds_shares_of_every_pair(calls: list[AgentCall]) -> None:
    """A share above 1 would mean that something was added up; a lost pair, that calls were left out."""
    picture = shared_prefixes(calls)
    known = picture.share[picture.pairs > 0]
    assert ((known >= 0) & (known <= 1)).all()
    n = sum(bool(call.prompt) for call in calls)
    assert picture.pairs.sum() == n * (n - 1) // 2


def test_an_impossible_block_size_is_refused() -> None:
    """Zero comes from an engine that did not report its block size; it must not divide."""
    with pytest.raises(UsageError, match="0 tokens"):
        reuse_structure([], 0)
