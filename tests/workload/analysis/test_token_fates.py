"""What became of the prompt tokens, in sums and in words."""

from __future__ import annotations

from typing import Any, get_args

from exporter.agent.instruments import CHAIN, TOKEN_FATES
from workload.analysis.token_fates import WORDS, cause_of, fates_in_words, token_fates
from workload.fleet.account import FATES, Fate
from workload.fleet.entry import Chain


def row(
    bound: int | None = None, in_fleet: int | None = None, on_engine: int | None = None, **fates: int
) -> dict[str, Any]:
    """Return a call with its row of fates."""
    places = {"bound": bound, "in_fleet": in_fleet, "on_engine": on_engine}
    about = {"question_id": "q1", "node": "decide", "hop": 1, "prompt_tokens": sum(fates.values())}
    return about | {"fates": {"call": 1, "engine": "e0#0", **dict.fromkeys(FATES, 0), **fates, **places}}


def test_the_sets_are_one() -> None:
    """The metrics' labels, the journal's columns and the words of the report name the same fates."""
    assert TOKEN_FATES == FATES == get_args(Fate) == tuple(WORDS)
    assert ("prompt", *Chain._fields) == CHAIN


def test_sums_over_calls_and_leaves_out_what_is_not_known() -> None:
    """The chain is a share of the prompt tokens of the calls for which it is known."""
    calls = [row(80, 60, 40, hit=40, elsewhere=20, evicted=20, cold=20), row(hit=10, unknown=90), {"fates": None}, {}]
    found = token_fates(calls)
    assert found is not None
    assert found["calls"] == 2
    assert {fate: tokens for fate, tokens in found["tokens"].items() if tokens} == {
        "hit": 50,
        "cold": 20,
        "elsewhere": 20,
        "evicted": 20,
        "unknown": 90,
    }
    assert found["chain"] == {"prompt": 100, "bound": 80, "in_fleet": 60, "on_engine": 40, "delivered": 40}


def test_a_run_without_a_ledger_says_nothing() -> None:
    """An engine without a prefix cache has no hits to explain, and an old journal has no fates."""
    assert token_fates([{}, {"fates": None}]) is None
    assert fates_in_words({}) == []


def test_says_it_in_one_sentence_and_the_chain_in_another() -> None:
    """A reader who knows no PromQL learns where the prefill work comes from."""
    found = token_fates([row(80, 60, 40, hit=40, elsewhere=20, evicted=20, cold=20)])
    assert found is not None
    chain = (
        "One cache that never evicts would have served 80.0% of the prompt tokens; 60.0% were in some engine's cache, "
        "40.0% in that of the engine that was chosen, and 40.0% were hits."
    )
    fates = "Of 100 prompt tokens 40 hit, 20 were new, 20 were on another engine and 20 had been evicted."
    assert fates_in_words({"on": found}) == [fates, chain]
    assert fates_in_words({"a": found, "b": found}) == [
        f"{arm}: {sentence}" for arm in "ab" for sentence in (fates, chain)
    ]


def test_without_events_only_hits_are_known() -> None:
    """Nothing is called evicted without evidence."""
    found = token_fates([row(hit=60, tail=5, unknown=35)])
    assert found is not None
    assert found["chain"] is None
    assert fates_in_words({"on": found}) == [
        "Of 100 prompt tokens 60 hit, 35 have an unknown fate and 5 lay after the last block that can be reused."
    ]


def test_the_cause_of_a_call_is_the_fate_of_most_of_what_it_lost() -> None:
    """New tokens are no loss: no cache could have had them."""
    assert cause_of(row(hit=4, cold=100, evicted=8, salt=4)["fates"]) == "evicted"
    assert cause_of(row(hit=4, tail=1, cold=100)["fates"]) is None


def test_lists_the_dearest_misses_with_their_questions() -> None:
    """A reader asks which prompts to change; a sum names none."""
    calls = [row(evicted=lost, cold=500) | {"question_id": f"q{lost}"} for lost in range(15)]
    found = token_fates(calls)
    assert found is not None
    assert [miss["question_id"] for miss in found["dearest"]] == [f"q{lost}" for lost in range(14, 4, -1)]
    assert found["dearest"][0] == {
        "question_id": "q14",
        "node": "decide",
        "hop": 1,
        "prompt_tokens": 514,
        "lost_tokens": 14,
        "fate": "evicted",
    }
