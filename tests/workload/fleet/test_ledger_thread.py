"""The ledger of running calls, with a publisher that speaks as vLLM's does."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.stubs.kv_publisher import StubPublisher
from workload.engine.facts import facts_from
from workload.engine.kv_events import FLAG
from workload.engine.launcher import RunningEngine
from workload.engine.profile import SERVER_MODULE
from workload.fleet.account import Account
from workload.fleet.engine_ledger import ledger_of
from workload.fleet.event_source import EventSource
from workload.fleet.events import EngineId
from workload.fleet.ledger_thread import LedgerThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.fleet.entry import Entry

E0 = EngineId("e0")
STORED = {"type": "BlockStored", "block_hashes": [1, 2], "parent_block_hash": None, "token_ids": [1, 2, 3, 4]}
STORED |= {"block_size": 2, "session_id": "a"}
CONFIG = '{"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "tcp://*:5557"}'


def account(session: str, on_close: Callable[[Entry], object]) -> Account:
    """Return the account of a call that has just ended."""
    now = time.time()
    return Account(
        session=session,
        server=None,
        prompt=[1, 2, 3, 4, 5],
        cached_tokens=0,
        started=now - 1,
        ended=now,
        on_close=on_close,
    )


def test_closes_accounts_from_the_events_that_it_reads() -> None:
    """The caller sends a call, ends it, and is told its fates later, in a thread."""
    closed: list[Entry] = []
    with StubPublisher() as publisher:
        source = EventSource(E0, publisher.endpoint, publisher.replay_endpoint)
        with LedgerThread({E0: 2}, [source]) as ledger:
            assert ledger.needs_session
            ledger.send("a", time.time())
            publisher.publish(STORED, at=time.time())
            ledger.end(account("a", closed.append))
            ledger.send("b", time.time())
            ledger.drop("b")
    assert [(entry.engine, dict(entry.fates)) for entry in closed] == [(E0, {"cold": 4, "tail": 1})]


def test_finds_a_call_by_its_tokens_where_events_name_no_session() -> None:
    """The call need not carry a session, which such a release would ignore."""
    closed: list[Entry] = []
    with StubPublisher() as publisher:
        source = EventSource(E0, publisher.endpoint, publisher.replay_endpoint)
        with LedgerThread({E0: 2}, [source], names_calls=False) as ledger:
            assert not ledger.needs_session
            publisher.publish({**STORED, "session_id": None}, at=time.time())
            ledger.end(account("a", closed.append))
    assert [dict(entry.fates) for entry in closed] == [{"cold": 4, "tail": 1}]


def test_closes_accounts_of_a_silent_engine_as_unknown() -> None:
    """Nothing is subscribed to, and nothing is guessed."""
    closed: list[Entry] = []
    with LedgerThread({E0: 2}, []) as ledger:
        assert not ledger.needs_session
        ledger.end(account("a", closed.append))
    assert [dict(entry.fates) for entry in closed] == [{"unknown": 4, "tail": 1}]


def test_closes_accounts_while_it_runs() -> None:
    """A soak of hours must not keep every call until its end."""
    closed: list[Entry] = []
    clock = [1000.0]
    with LedgerThread({E0: 2}, [], wall=lambda: clock[0]) as ledger:
        ledger.end(replace(account("a", closed.append), started=1.0, ended=2.0))
        deadline = time.monotonic() + 20
        while not closed and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(closed) == 1


def broken(*_: object) -> None:
    """Fail as a defect would."""
    raise ValueError("planted")


def test_a_failure_closes_open_accounts_as_unknown_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Later calls have accounts; the failure is said once and counted each time."""
    closed: list[Entry] = []
    failures: list[int] = []
    with StubPublisher() as publisher:
        source = EventSource(E0, publisher.endpoint, publisher.replay_endpoint)
        monkeypatch.setattr("workload.fleet.admission.Admissions.apply", broken)
        publisher.publish(STORED, at=time.time())
        with LedgerThread({E0: 2}, [source], on_failure=lambda: failures.append(1)) as ledger:
            ledger.end(account("a", closed.append))
            ledger.end(account("b", closed.append))
    assert [dict(entry.fates) for entry in closed] == [{"unknown": 4, "tail": 1}] * 2
    assert failures
    assert caplog.text.count("The ledger of prompt tokens failed") == 1


def test_after_a_failure_only_a_clear_makes_a_cache_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks stored before it are forgotten, so a call that finds one is no contradiction but unknown."""
    closed: list[Entry] = []
    clock = [1000.0]
    failed: list[int] = []
    with StubPublisher() as publisher, monkeypatch.context() as planted:
        planted.setattr("workload.fleet.admission.Admissions.apply", broken)
        publisher.publish(STORED, at=900.0)
        source = EventSource(E0, publisher.endpoint, publisher.replay_endpoint)
        with LedgerThread({E0: 2}, [source], lambda: clock[0], lambda: failed.append(1)) as ledger:
            clock[0] = 1001.0
            deadline = time.monotonic() + 20
            while not failed and time.monotonic() < deadline:
                time.sleep(0.01)
            planted.undo()
            late = {**STORED, "session_id": "c", "block_hashes": [8, 9], "token_ids": [8, 8, 9, 9]}
            publisher.publish(late, at=1001.0)
            call = replace(account("c", closed.append), prompt=[8, 8, 9, 9, 9], started=1000.5, ended=1001.5)
            ledger.end(call)
    assert [dict(entry.fates) for entry in closed] == [{"unknown": 4, "tail": 1}]


def test_an_entry_that_cannot_be_kept_costs_no_other() -> None:
    """The journal may be full or closed."""
    closed: list[Entry] = []
    failures: list[int] = []
    with LedgerThread({E0: 2}, [], on_failure=lambda: failures.append(1)) as ledger:
        ledger.end(account("a", broken))
        ledger.end(account("b", closed.append))
    assert [entry.account.session for entry in closed] == ["b"]
    assert failures == [1]


def test_a_subscription_that_fails_loses_events_and_ends_no_run() -> None:
    """An address that ZeroMQ refuses must neither hang the start nor be taken for an engine that evicts nothing."""
    closed: list[Entry] = []
    failures: list[int] = []
    with LedgerThread({E0: 2}, [EventSource(E0, "nowhere")], on_failure=lambda: failures.append(1)) as ledger:
        ledger.end(account("a", closed.append))
    assert [dict(entry.fates) for entry in closed] == [{"unknown": 4, "tail": 1}]
    assert failures == [1]


@pytest.mark.parametrize(
    ("version", "labels", "flags", "has_ledger", "needs_session"),
    [
        ("0.32.0", {}, (FLAG, CONFIG), True, True),
        ("0.32.0", {}, (), True, False),
        ("0.26.0", {}, (FLAG, CONFIG), True, False),
        ("0.23.0", {}, (FLAG, CONFIG), True, False),
        ("0.32.0", {}, (FLAG, CONFIG, "--data-parallel-size", "2"), True, False),
        ("0.32.0", {"enable_prefix_caching": "False"}, (FLAG, CONFIG), False, False),
        ("0.32.0", {"block_size": "None"}, (FLAG, CONFIG), False, False),
    ],
)
def test_follows_an_engine_that_shows_where_it_publishes(
    version: str, labels: dict[str, str], flags: tuple[str, ...], has_ledger: bool, needs_session: bool
) -> None:
    """An engine without a prefix cache has no hits to explain; one whose ranks are not all visible is silent."""
    told = {"block_size": "16", "enable_prefix_caching": "True", **labels}
    facts = facts_from(version, {"id": "m"}, told)
    argv = ("python", "-m", SERVER_MODULE, *flags)
    engine = RunningEngine("http://127.0.0.1:1", facts, argv, None)
    found = ledger_of(engine)
    assert (found is not None) is has_ledger
    assert (found is not None and found.needs_session) is needs_session
