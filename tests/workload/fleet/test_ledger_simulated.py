"""The ledger against a simulator of two engines that knows neither hashes nor events."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.kv_engines import SimulatedCall, SimulatedEngine, fates_of
from workload.fleet.account import FATES, Account
from workload.fleet.events import Batch, Cleared, EngineId, Lost, batch_of
from workload.fleet.ledger import Ledger

if TYPE_CHECKING:
    from workload.fleet.entry import Entry

SIZE = 4
ENGINES = (EngineId("e0"), EngineId("e1"))


@dataclass
class Story:
    """What two engines did: each call with its engine, and the batches in the order of their steps."""

    calls: list[tuple[SimulatedCall, EngineId]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    preemptions: int = 0


def simulate(seed: int, calls: int, *, blocks: int = 24, full: bool = True, sessions: bool = True) -> Story:
    """Return a random story: talks that grow, are rerouted, salted and forgotten, and caches that are reset."""
    draw, story = random.Random(seed), Story()
    engines = [SimulatedEngine(blocks, SIZE, budget=12, full=full, has_sessions=sessions) for _ in ENGINES]
    engines[0].others, engines[1].others = [engines[1]], [engines[0]]
    talks: list[list[int]] = [[draw.randrange(50) for _ in range(9)] for _ in range(6)]
    now, sent = 0.0, 0
    sent_calls: list[SimulatedCall] = []
    while sent < calls or any(engine.running or engine.waiting for engine in engines):
        now += 1.0
        if sent < calls and draw.random() < 0.5:
            talk = draw.randrange(len(talks))
            if len(talks[talk]) > 40 or draw.random() < 0.1:
                talks[talk] = talks[0][: draw.randrange(9)] + [draw.randrange(50) for _ in range(draw.randrange(1, 9))]
            talks[talk] = talks[talk] + [draw.randrange(50) for _ in range(draw.randrange(6))]
            output = [draw.randrange(50) for _ in range(draw.choice([1, 2, 8]))]
            world = draw.choice(["", "", "", "other"])
            last = [call for call in sent_calls if call.ended and call.talk == talk][-1:]
            if last and draw.random() < 0.6:  # the talk goes on from the reply
                talks[talk] = last[0].sequence
            call = SimulatedCall(f"s{sent}", list(talks[talk]), output, world, started=now, talk=talk)
            where = draw.randrange(2)
            engines[where].waiting.append(call)
            story.calls.append((call, ENGINES[where]))
            sent_calls.append(call)
            sent += 1
        for place, engine in enumerate(engines):
            if not engine.running and not engine.waiting and draw.random() < 0.02:
                engine.clear()
            events = engine.step(now + 0.1 + place / 10)
            if events:
                at = now + 0.1 + place / 10
                story.batches.append(batch_of(ENGINES[place], at, at + draw.random() / 4, events))
    story.preemptions = sum(engine.preemptions for engine in engines)
    return story


def account(call: SimulatedCall, server: str | None) -> Account:
    """Return what a client knows of a call."""
    assert call.ended is not None
    return Account(
        session=call.session,
        server=server,
        prompt=call.prompt,
        cached_tokens=call.cached_tokens,
        started=call.started,
        ended=call.ended,
        output=call.output,
        world=call.world,
    )


def replay(story: Story, seed: int = 0, *, knows_server: bool = True) -> dict[str, Entry]:
    """Return the ledger of a story whose messages arrive in a random order that each engine and each call keeps."""
    draw, ledger, entries = random.Random(seed), Ledger(dict.fromkeys(ENGINES, SIZE)), []
    happened: list[tuple[float, int, object]] = [(batch.received, 2, batch) for batch in story.batches]
    for call, engine in story.calls:
        done = account(call, engine.server if knows_server else None)
        happened += [(call.started, 0, call), (done.ended + draw.random() * 3, 1, done)]
    for now, _, message in sorted(happened, key=lambda each: each[:2]):
        if isinstance(message, SimulatedCall):
            ledger.send(message.session, message.started)
        elif isinstance(message, Account):
            ledger.end(message)
        elif isinstance(message, Batch):
            ledger.take(message)
        if draw.random() < 0.5:
            entries += ledger.advance(now)
    entries += ledger.advance()
    found = {entry.account.session: entry for entry in entries}
    assert len(found) == len(entries) == len(story.calls), "a call is counted once"
    return found


def check_sums(entries: dict[str, Entry]) -> None:
    """Every prompt token has one fate of the closed set, and the hits are those of the response."""
    for entry in entries.values():
        assert sum(entry.fates.values()) == len(entry.account.prompt)
        assert set(entry.fates) <= set(FATES)
        assert entry.fates.get("hit", 0) == entry.account.cached_tokens
        if entry.chain:
            assert list(entry.chain) == sorted(entry.chain, reverse=True)


def wrong(story: Story, entries: dict[str, Entry], *, may_be_unknown: bool = False) -> list[object]:
    """Return the calls whose fates are not those of the simulator."""
    found: list[object] = []
    for call, engine in story.calls:
        true = {fate: count for fate, count in fates_of(call, SIZE).items() if count}
        entry = entries[call.session]
        told = {fate: count for fate, count in entry.fates.items() if not (may_be_unknown and fate == "unknown")}
        fits = all(true.get(fate, 0) >= count for fate, count in told.items()) if may_be_unknown else told == true
        if not fits or entry.engine not in {engine, None}:
            found.append((call.session, true, entry.fates))
    return found


def test_names_the_cause_of_every_token_of_two_thousand_calls() -> None:
    """With reroutes, salts, resets, evictions, preemptions and calls in flight, nothing is left unknown or wrong."""
    story = simulate(1, 2_000)
    entries = replay(story)
    # vLLM evicts the end of a sequence first, so a block is left behind a missing one only in tests made for it
    assert {fate for entry in entries.values() for fate in entry.fates} == set(FATES) - {"unknown", "behind"}
    assert story.preemptions > 20
    check_sums(entries)
    assert wrong(story, entries) == []
    assert all(entry.chain for entry in entries.values() if len(entry.account.prompt) > SIZE)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(6, 60), st.booleans(), st.booleans())
def test_no_interleaving_changes_a_fate(seed: int, blocks: int, full: bool, knows_server: bool) -> None:
    """Answers and events overtake each other on a network, and responses of old servers do not name the engine."""
    story = simulate(seed, 60, blocks=max(blocks, 20), full=full)
    entries = replay(story, seed, knows_server=knows_server)
    check_sums(entries)
    assert wrong(story, entries) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_without_sessions_a_cause_is_right_or_unknown(seed: int) -> None:
    """Before vLLM 0.30 only token ids connect an event to a call; equal prompts at once must not be guessed apart."""
    story = simulate(seed, 60, full=False, sessions=False)
    entries = replay(story, seed)
    check_sums(entries)
    assert wrong(story, entries, may_be_unknown=True) == []
    assert wrong(story, replay(story, seed, knows_server=False), may_be_unknown=True) == []


def test_without_sessions_most_calls_are_explained() -> None:
    """A ledger that says unknown to everything is never wrong, and useless."""
    story = simulate(3, 1_000, full=False, sessions=False)
    unknown = sum("unknown" in entry.fates for entry in replay(story).values())
    assert unknown < 30


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_after_a_gap_nothing_is_wrong(seed: int, length: int) -> None:
    """Lost events cost knowledge, never truth: what they may have changed is unknown until the cache is cleared."""
    story = simulate(seed, 80)
    draw = random.Random(seed)
    first = draw.randrange(len(story.batches))
    lost = [batch for batch in story.batches[first : first + length] if batch.engine == ENGINES[0]]
    marks = [batch._replace(events=(Lost("a test"),)) for batch in lost]
    story.batches = [marks.pop(0) if batch in lost else batch for batch in story.batches]
    entries = replay(story, seed)
    check_sums(entries)
    assert wrong(story, entries, may_be_unknown=True) == []


def test_a_gap_makes_all_of_the_engine_unknown_until_its_cache_is_cleared() -> None:
    """Half a truth about a cache is no truth: a block that seems to be there may have been evicted in the gap."""
    story = simulate(5, 600)
    at = next(number for number, batch in enumerate(story.batches) if number > 300 and batch.engine == ENGINES[0])
    start = story.batches[at].at
    clears = [batch.at for batch in story.batches if batch.engine == ENGINES[0] and Cleared() in batch.events]
    end = next(clear for clear in clears if clear > start)
    story.batches[at] = story.batches[at]._replace(events=(Lost("a test"),))
    entries = replay(story)
    inside = [
        entries[call.session]
        for call, engine in story.calls
        if engine == ENGINES[0] and start < call.started and call.ended and call.ended < end
    ]
    assert len(inside) > 5
    assert {fate for entry in inside for fate in entry.fates} <= {"hit", "tail", "unknown"}
    later = [entries[call.session] for call, _ in story.calls if call.started > end + 1]
    assert len(later) > 50
    assert not any("unknown" in entry.fates for entry in later)


@pytest.mark.parametrize("knows_server", [True, False])
def test_an_engine_that_publishes_nothing_leaves_causes_unknown(knows_server: bool) -> None:
    """Without events nothing says "evicted": what is not a hit is unknown, on whichever engine it may have been."""
    story = simulate(4, 200)
    ledger = Ledger(dict.fromkeys(ENGINES, SIZE), silent=ENGINES)
    for call, engine in story.calls:
        ledger.end(account(call, engine.server if knows_server else None))
    entries = {entry.account.session: entry for entry in ledger.advance()}
    check_sums(entries)
    assert {fate for entry in entries.values() for fate in entry.fates} == {"hit", "tail", "unknown"}
    assert {entry.engine for entry in entries.values()} == (set(ENGINES) if knows_server else {None})
