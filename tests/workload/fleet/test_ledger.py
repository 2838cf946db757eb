"""The ledger's rules one by one; the simulator and the recordings test them together."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest

from workload.fleet.account import Account
from workload.fleet.entry import Chain, Entry
from workload.fleet.events import Batch, Cleared, EngineId, Event, Lost, Removed, Stored
from workload.fleet.ledger import MAX_BATCHES, Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

E0, E1 = EngineId("e0"), EngineId("e1")
PROMPT = [1, 2, 3, 4, 5, 6, 7]


def stored(session: str | None, tokens: Sequence[int], *names: int, parent: int | None = None) -> Stored:
    """Return an event about blocks of two tokens."""
    return Stored(names, parent, array("I", tokens), 2, "", session)


def call(session: str, cached: int | None, server: str | None = "e0", started: float = 0.0) -> Account:
    """Return the account of a call with the prompt."""
    return Account(
        session=session, server=server, prompt=PROMPT, cached_tokens=cached, started=started, ended=started + 1
    )


def batch(at: float, *events: Event, engine: EngineId = E0) -> Batch:
    """Return a batch that arrives at once."""
    return Batch(engine, at, at, events)


def entries(*messages: Account | Batch, ledger: Ledger | None = None) -> dict[str, Entry]:
    """Return the entries by session after these messages."""
    ledger = ledger or Ledger({E0: 2, E1: 2})
    for message in messages:
        ledger.end(message) if isinstance(message, Account) else ledger.take(message)
    return {entry.account.session: entry for entry in ledger.advance()}


WHOLE = stored("a", PROMPT[:6], 1, 2, 3)


def test_a_block_behind_a_missing_one_is_no_eviction() -> None:
    """Only the first block was evicted; the others are there, and cannot be reached."""
    second = stored("b", PROMPT[:6], 1, 2, 3)
    found = entries(
        call("a", 0), call("b", 0, started=2), batch(0.5, WHOLE), batch(1.5, Removed((1,))), batch(2.5, second)
    )
    assert found["b"].fates == {"evicted": 2, "behind": 4, "tail": 1}
    assert found["b"].chain == Chain(6, 0, 0, 0)


def test_the_chain_names_what_routing_cost() -> None:
    """All three blocks are on the other engine, and one here."""
    short = stored("x", PROMPT[:2], 1)
    more = stored("b", PROMPT[2:6], 2, 3, parent=1)
    found = entries(
        call("a", 0),
        call("b", 2, "e1", started=4),
        batch(0.5, WHOLE),
        batch(2.5, short, engine=E1),
        batch(4.5, stored("b", PROMPT[:2], 1), more, engine=E1),
    )
    assert found["b"].fates == {"hit": 2, "elsewhere": 4, "tail": 1}
    assert found["b"].chain == Chain(6, 6, 2, 2)


def test_events_that_contradict_the_response_leave_it_unknown() -> None:
    """The response says 4 cached tokens, the events 0: no cause can be believed."""
    found = entries(call("a", 4), batch(0.5, WHOLE))
    assert found["a"].fates == {"hit": 4, "unknown": 2, "tail": 1}
    assert found["a"].chain is None


def test_cached_tokens_that_are_not_reported_leave_it_unknown() -> None:
    """A server without --enable-prompt-tokens-details reports none; that is not 0."""
    assert entries(call("a", None), batch(0.5, WHOLE))["a"].fates == {"unknown": 6, "tail": 1}


def test_a_call_without_events_is_unknown() -> None:
    """Its events are lost, or those of an engine that nobody listens to."""
    assert entries(call("a", 2))["a"].fates == {"hit": 2, "unknown": 4, "tail": 1}


def test_a_call_whose_events_come_from_two_engines_is_on_neither() -> None:
    """A router sends a call again to another engine; without a fingerprint nothing says which one answered."""
    events = batch(0.5, WHOLE), batch(0.7, WHOLE, engine=E1)
    assert entries(call("a", 0, None), *events)["a"].engine is None
    assert entries(call("a", 0, None), *events)["a"].fates == {"unknown": 6, "tail": 1}
    assert entries(call("a", 0, "e1"), *events)["a"].engine == E1


def test_an_engine_that_joins_is_known_from_its_events() -> None:
    """A replica that a router adds in mid-run."""
    joined = EngineId("e2")
    found = entries(call("a", 0, None), batch(0.5, WHOLE, engine=joined))
    assert (found["a"].engine, found["a"].fates) == (joined, {"cold": 6, "tail": 1})


def test_a_restart_is_a_reset() -> None:
    """The engine's cache died with it."""
    again = stored("b", PROMPT[:6], 1, 2, 3)
    found = entries(
        call("a", 0), call("b", 0, started=4), batch(0.5, WHOLE), batch(3, Cleared("restart")), batch(4.5, again)
    )
    assert found["b"].fates == {"reset": 6, "tail": 1}


def test_engines_may_have_blocks_of_other_sizes() -> None:
    """Two versions behind one router: what covers a block on the other engine is found by its tokens."""
    ledger = Ledger({E0: 2, E1: 3})
    other = Stored((1, 2), None, array("I", PROMPT[:6]), 3, "", "a")
    found = entries(
        call("a", 0, "e1"),
        call("b", 0, started=4),
        batch(0.5, other, engine=E1),
        batch(4.5, stored("b", PROMPT[:6], 1, 2, 3)),
        ledger=ledger,
    )
    assert found["b"].fates == {"elsewhere": 6, "tail": 1}


def test_blocks_of_another_size_than_the_engine_reports_are_a_loss() -> None:
    """The label of a hybrid model is not the size of the blocks in its events."""
    other = Stored((1, 2), None, array("I", PROMPT[:6]), 3, "", "a")
    assert entries(call("a", 0), batch(0.5, other))["a"].fates == {"unknown": 6, "tail": 1}


def test_a_loss_on_another_engine_makes_a_cold_block_unknown() -> None:
    """It may have been stored there in the gap."""
    found = entries(call("a", 0), batch(0.2, Lost("a test"), engine=E1), batch(0.5, WHOLE))
    assert found["a"].fates == {"unknown": 6, "tail": 1}


def test_an_event_waits_for_the_calls_that_were_sent_before_it() -> None:
    """It may be about a call whose prompt is not known yet."""
    ledger = Ledger({E0: 2})
    ledger.send("a", 0.0)
    ledger.take(batch(0.5, WHOLE))
    assert ledger.advance(100.0) == []
    ledger.end(call("a", 0))
    (entry,) = ledger.advance(100.0)
    assert entry.fates == {"cold": 6, "tail": 1}


def test_an_account_stays_open_until_its_events_must_have_come() -> None:
    """32 of 1,588 events came after their call's answer."""
    ledger = Ledger({E0: 2})
    ledger.end(call("a", 0))
    assert ledger.advance(1.1) == []
    ledger.take(batch(0.5, WHOLE)._replace(received=1.2))
    (entry,) = ledger.advance(10.0)
    assert entry.fates == {"cold": 6, "tail": 1}


def test_a_call_that_failed_delays_nothing() -> None:
    """It has no account, but its blocks are in the cache."""
    ledger = Ledger({E0: 2})
    ledger.send("a", 0.0)
    ledger.drop("a")
    ledger.end(call("b", 6, started=2))
    ledger.take(batch(0.5, WHOLE))
    ledger.take(batch(2.5, stored("b", PROMPT[:6], 1, 2, 3)))
    (entry,) = ledger.advance(100.0)
    assert (entry.fates, entry.chain) == ({"hit": 6, "tail": 1}, Chain(6, 6, 6, 6))


def test_a_flood_of_events_does_not_wait() -> None:
    """A call that hangs must not let events fill the memory; what cannot be told apart is unknown."""
    ledger = Ledger({E0: 2})
    ledger.send("hangs", 0.0)
    for number in range(MAX_BATCHES + 10):
        ledger.take(batch(1.0 + number))
        if number % 1000 == 0:
            ledger.advance(1.0 + number)
    ledger.advance(0.0)
    assert len(ledger._batches) == MAX_BATCHES


@pytest.mark.parametrize("tokens", [[], [1], [1, 2]])
def test_a_prompt_without_a_usable_block_is_all_tail(tokens: list[int]) -> None:
    """Its last token is computed in any case, and it leaves no event."""
    account = Account(session="a", server="e0", prompt=tokens, cached_tokens=0, started=0.0, ended=1.0)
    assert entries(account)["a"].fates == ({"tail": len(tokens)} if tokens else {})
