"""The ledger on recordings of two real engines (vLLM 0.32.0, 48 usable blocks of 32 tokens each)."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workload.fleet.account import Account
from workload.fleet.events import Batch, EngineId, Lost, batch_of
from workload.fleet.ledger import Ledger

if TYPE_CHECKING:
    from workload.fleet.entry import Entry

FIXTURES = Path(__file__).parents[2] / "fixtures"
ENGINES = (EngineId("e0"), EngineId("e1"))
# What was planned for the tokens that are no hits; for the other calls it is in words.
PLANTED = {"cold": {"cold"}, "elsewhere": {"elsewhere"}, "evicted": {"evicted"}, "reset": {"reset"}, "none": set()}


@cache
def recorded(name: str) -> list[dict[str, Any]]:
    """Return the lines of a recording."""
    with gzip.open(FIXTURES / "fleet" / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def accounts(name: str, *, knows_server: bool = True) -> list[Account]:
    """Return what the clients knew."""
    return [
        Account(
            session=call["session"],
            server=call["engine"] if knows_server else None,
            prompt=call["prompt_token_ids"],
            output=call["output_token_ids"],
            cached_tokens=call["cached_tokens"],
            started=call["start"],
            ended=call["end"],
            world=call["salt"] or "",
        )
        for call in recorded(f"{name}_calls")
    ]


def batches(name: str) -> list[Batch]:
    """Return what the engines published."""
    return [
        batch_of(EngineId(line["engine"]), line["ts"], line["received"], line["events"])
        for line in recorded(f"{name}_events")
    ]


def entries_of(calls: list[Account], events: list[Batch]) -> dict[str, Entry]:
    """Return the entries by session."""
    ledger = Ledger(dict.fromkeys(ENGINES, 32))
    for call in calls:
        ledger.end(call)
    for batch in events:
        ledger.take(batch)
    return {entry.account.session: entry for entry in ledger.advance()}


@pytest.mark.parametrize("knows_server", [True, False])
def test_names_every_planted_cause(knows_server: bool) -> None:
    """58 calls whose fates were planned: reroutes, evictions, salts, a reset, prompts in flight, preemptions."""
    entries = entries_of(accounts("planted", knows_server=knows_server), batches("planted"))
    expected = {line["call"]: line for line in recorded("planted_ledger")}
    assert len(entries) == 58
    assert {name: dict(entry.fates) for name, entry in entries.items()} == {
        name: line["fates"] for name, line in expected.items()
    }
    located = {name: entry.engine for name, entry in entries.items() if len(entry.account.prompt) > 32}
    assert located == {name: EngineId(expected[name]["engine"]) for name in located}
    for call in recorded("planted_calls"):
        if (planted := PLANTED.get(call["planted"])) is not None:
            assert planted <= set(entries[call["session"]].fates) <= {*planted, "hit", "tail"}


@pytest.mark.parametrize("knows_server", [True, False])
def test_explains_every_call_under_preemption(knows_server: bool) -> None:
    """300 random calls, 6 at once, 35 preemptions; the engines counted 48,736 hits of 114,794 queried tokens."""
    entries = entries_of(accounts("preempted", knows_server=knows_server), batches("preempted"))
    total: Counter[str] = Counter()
    for entry in entries.values():
        total.update(entry.fates)
        assert sum(entry.fates.values()) == len(entry.account.prompt)
        assert entry.fates.get("hit", 0) == entry.account.cached_tokens
        if entry.chain:
            assert list(entry.chain) == sorted(entry.chain, reverse=True)
    assert len(entries) == 300
    assert (total["hit"], total.total(), total["unknown"]) == (48_736, 114_794, 0)
    served = {call["session"]: EngineId(call["served"]) for call in recorded("preempted_calls")}
    assert all(entry.engine in {served[name], None} for name, entry in entries.items())


@pytest.mark.parametrize("name", ["planted", "preempted"])
@pytest.mark.parametrize("first", [0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("engine", ENGINES)
def test_is_never_wrong_after_a_gap(name: str, first: float, engine: EngineId) -> None:
    """A planted gap costs knowledge: each token has its true fate or is unknown, on the other engine too."""
    events = batches(name)
    true = entries_of(accounts(name), events)
    own = [number for number, batch in enumerate(events) if batch.engine == engine]
    for number in own[int(first * len(own)) :][:5]:
        events[number] = events[number]._replace(events=(Lost("a test"),))
    entries = entries_of(accounts(name), events)
    wrong = [
        (session, dict(entry.fates), dict(true[session].fates))
        for session, entry in entries.items()
        for fate, tokens in entry.fates.items()
        if fate != "unknown" and tokens > true[session].fates.get(fate, 0)
    ]
    assert wrong == []
    assert any("unknown" in entry.fates for entry in entries.values())


def test_a_first_call_on_another_rank_is_no_eviction() -> None:
    """Six equal prompts on a server with two ranks had 0, 0, 224, ... cached tokens; the second was called evicted."""
    lines = [json.loads(line) for line in (FIXTURES / "fleet" / "dp2_events.jsonl").read_text().splitlines()]
    ranks = [EngineId("dp", rank) for rank in (0, 1)]
    ledger = Ledger(dict.fromkeys(ranks, 32))
    for line, cached in zip(lines[:6], (0, 0, 224, 224, 224, 224), strict=True):
        stored, ended = line["events"][0], line["ts"]
        ledger.end(
            Account(
                session=stored["session_id"],
                server="dp",
                prompt=[*stored["token_ids"], 1],
                cached_tokens=cached,
                started=ended - 0.1,
                ended=ended,
            )
        )
        ledger.take(batch_of(ranks[line["rank"]], line["ts"], line["received"], line["events"]))
    entries = ledger.advance()
    assert [entry.engine for entry in entries] == [*ranks, *ranks, *ranks]
    assert [dict(entry.fates) for entry in entries] == [
        {"cold": 224, "tail": 1},
        {"elsewhere": 224, "tail": 1},
        *[{"hit": 224, "tail": 1}] * 4,
    ]
