"""The JSON is what others compute with: its parts must add up, and what is not known must be null."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from workload.experiments.kv_cache import KV_CACHE
from workload.kv_cache.simulated import ORIGIN
from workload.kv_cache.source import CallSource, SentCall
from workload.kv_cache.summary import summarize
from workload.record.manifest import EngineEntry
from workload.theory.structure import BLOCK_SIZES, AgentCall

if TYPE_CHECKING:
    from tests.workload.kv_cache.conftest import Simulation
    from workload.corpus.tokenizer import ChatTokenizer

REST = {"run": "r", "chats_checked_against_the_server": 0, "quality": None}


@pytest.fixture(scope="module")
def summary(simulation: Simulation, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """The summary of the simulated calls, read back."""
    found: dict[str, Any] = json.loads(
        json.dumps(
            summarize(CallSource(kind="simulated", origin=ORIGIN, arms=simulation.arms, block_size=16), tokenizer),
            allow_nan=False,
        )
    )
    return found


def test_it_says_that_it_is_simulated(summary: dict[str, Any]) -> None:
    """A number of a simulation must never travel as a measurement."""
    assert summary["is_simulated"]
    assert summary["origin"].startswith("SIMULATED")
    assert KV_CACHE.verdicts({**summary, **REST})[0].startswith("SIMULATED")


def test_every_block_size_is_reported(summary: dict[str, Any]) -> None:
    """The size is the engine's and never assumed, so a reader finds the bound of whatever engine is at hand."""
    for arm in summary["arms"].values():
        assert [bound["block_size"] for bound in arm["bounds"]] == list(BLOCK_SIZES)
        shares = [bound["share"] for bound in arm["bounds"]]
        assert shares == sorted(shares, reverse=True)


def test_parts_add_up(summary: dict[str, Any]) -> None:
    """Cells to the whole, parts of prompts to the prompts, pairs of one request and of two to all pairs."""
    for arm in summary["arms"].values():
        for bound in arm["bounds"]:
            for name in ("calls", "prompt_tokens", "reusable_tokens", "uncached_tokens"):
                assert sum(cell[name] for cell in bound["cells"]) == bound[name]
        parts = arm["parts"].values()
        assert sum(part["tokens"] for part in parts) == pytest.approx(arm["prompt_tokens_per_question"])
        assert sum(part["uncached"] for part in parts) == pytest.approx(arm["uncached_tokens_per_question"])
        whole = arm["bounds"][1]
        assert whole["uncached_tokens"] / arm["requests"] == pytest.approx(arm["uncached_tokens_per_question"])
        cells = sum(cell["uncached_mean"] * cell["calls"] for cell in arm["computed_by_cell"])
        assert cells == pytest.approx(whole["uncached_tokens"])


def test_the_picture_distinguishes_one_request_from_two(summary: dict[str, Any]) -> None:
    """Appending shares nearly all within a request and only the preamble across; one mean of both hides that."""
    shared = summary["arms"]["append-only"]["shared_prefixes"]
    pairs = [sum(map(sum, shared[kind]["pairs"])) for kind in ("all", "within_request", "across_requests")]
    assert pairs[0] == pairs[1] + pairs[2] == shared["calls"] * (shared["calls"] - 1) // 2
    cells = [(cell["node"], cell["hop"]) for cell in shared["cells"]]
    earlier, later = cells.index(("extract_clues", 1)), cells.index(("decide", 1))
    assert shared["within_request"]["share"][earlier][later] > 0.8
    across = shared["across_requests"]["share"][earlier][later]
    assert 0 < across < 0.7 * shared["within_request"]["share"][earlier][later]
    assert shared["within_request"]["share"][later][earlier] is None


def test_layouts_are_compared_by_what_they_compute(summary: dict[str, Any]) -> None:
    """Appending sends the most tokens and computes the fewest; the table must show both."""
    arms, compared = summary["arms"], summary["uncached_tokens_compared"]
    assert summary["compared_with"] == "original"
    assert arms["append-only"]["prompt_tokens_per_question"] > arms["original"]["prompt_tokens_per_question"]
    assert compared["append-only"]["change"] < compared["instructions-first"]["change"] < 0
    assert compared["append-only"]["n"] == arms["original"]["questions"]


def test_the_curve_names_its_order_of_calls(summary: dict[str, Any], simulation: Simulation) -> None:
    """Sequential questions and many in flight need other pools; recorded calls have the order they had."""
    steps = summary["arms"]["original"]["eviction"]
    assert {step["in_flight"] for step in steps} == {1, 8}
    timed = [
        SentCall(sent.call, span=(2.0 * position, 2.0 * position + 1))
        for position, sent in enumerate(simulation.arms["original"])
    ]
    reported = summarize(CallSource(kind="recorded", origin="recorded", arms={"a": timed}, block_size=16), None)
    assert {step["in_flight"] for step in reported["arms"]["a"]["eviction"]} == {None}


def test_what_is_not_known_is_null() -> None:
    """Foreign prompts have no parts that we know, few questions no interval, other sources no engine."""
    calls = [SentCall(AgentCall("a", "call", 1, [1, 2, 3])), SentCall(AgentCall("b", "call", 1, [1, 2, 4]))]
    reported = summarize(
        CallSource(kind="prompts", origin="prompts from x", arms={"prompts": calls}, block_size=16), None
    )
    arm = reported["arms"]["prompts"]
    assert not reported["is_simulated"]
    assert (arm["parts"], arm["uncached_tokens_per_question_ci"], arm["engine"]) == (None, None, None)
    assert KV_CACHE.verdicts({**reported, **REST})[0].startswith("prompts from x. The reuse bound")
    assert "no CI" in KV_CACHE.verdicts({**reported, **REST})[1]


def test_a_tokenizer_of_another_model_splits_nothing(simulation: Simulation, tokenizer: ChatTokenizer) -> None:
    """Parts found with other tokens would be credited to the wrong text."""
    changed = [
        SentCall(AgentCall("q", "decide", 1, [*sent.call.prompt, 5]), sent.messages)
        for sent in simulation.arms["original"][:2]
    ]
    assert (
        summarize(CallSource(kind="recorded", origin="recorded", arms={"a": changed}, block_size=16), tokenizer)[
            "arms"
        ]["a"]["parts"]
        is None
    )


def test_the_table_and_the_verdicts_report_every_arm(summary: dict[str, Any], simulation: Simulation) -> None:
    """What is printed at the end is all that many will read."""
    rows = KV_CACHE.headline(summary)
    assert {row[0] for row in rows} == set(simulation.arms)
    assert {len(row) for row in rows} == {len(KV_CACHE.columns)}
    engine = EngineEntry(block_size=16, num_gpu_blocks=100, prefix_caching=True)
    timed = [SentCall(sent.call, span=(2.0 * at, 2.0 * at + 1), reusable_tokens=0, cached_tokens=0) for at, sent in
             enumerate(simulation.arms["original"][:3])]  # fmt: skip
    reported = summarize(
        CallSource(kind="recorded", origin="recorded run", arms={"on": timed}, block_size=16, engines={"on": engine}),
        None,
    )
    text = " ".join(KV_CACHE.verdicts({**reported, **REST}))
    assert "computed during the run in 1 of 3 calls; the engine's pool (100 blocks) allows" in text
    assert "it served exactly the bound in 1 of them, and 0.0% of all tokens" in text
