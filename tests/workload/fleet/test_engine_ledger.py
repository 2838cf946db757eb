"""Which engines a ledger follows, and which of them an answer names."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.vllm import StubVllm
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.fleet.account import Account
from workload.fleet.engine_ledger import ledger_of

if TYPE_CHECKING:
    from workload.fleet.entry import Entry


def close(replicas: tuple[str, ...], fingerprint: object, *, facts_of: StubVllm) -> Entry:
    """Return the entry of a call that was answered by a router with this fingerprint."""
    with open_client(facts_of.url) as http:
        engine = RunningEngine("http://127.0.0.1:1", read_facts(http), None, None, replicas=replicas)
    ledger = ledger_of(engine)
    assert ledger is not None
    closed: list[Entry] = []
    with ledger:
        server = ledger.server_of(fingerprint)
        prompt = list(range(33))
        ledger.end(
            Account(
                session="a", server=server, prompt=prompt, cached_tokens=0, started=1, ended=2, on_close=closed.append
            )
        )
    return closed[0]


@pytest.mark.parametrize(
    ("names", "answered", "place"),
    [
        (("e0", "e1"), "e1", 1),
        (("e0", "e1"), "e2", None),
        (("e0", "e1"), None, None),
        (("same", "same"), "same", None),
        ((None, None), None, None),
        ((["e0"], {}), "e0", None),
    ],
)
def test_a_fingerprint_names_the_engine_only_if_each_has_its_own(
    names: tuple[Any, Any], answered: str | None, place: int | None
) -> None:
    """Without `--fingerprint-mode custom` all engines of a release may share one, which then names none."""
    with ExitStack() as stack:
        stubs = [stack.enter_context(StubVllm()) for _ in names]
        for stub, name in zip(stubs, names, strict=True):
            stub.fingerprint = name
        entry = close(tuple(stub.url for stub in stubs), answered, facts_of=stubs[0])
        assert (entry.engine.server if entry.engine else None) == (None if place is None else stubs[place].url)
    assert dict(entry.fates) == {"unknown": 32, "tail": 1}, "no events: nothing is guessed"


def test_an_engine_that_cannot_be_asked_is_silent() -> None:
    """It died between the proof of the arm and the first call; the run goes on and says unknown."""
    with StubVllm() as alive:
        entry = close((alive.url, "http://127.0.0.1:1"), None, facts_of=alive)
    assert entry.engine is None
    assert dict(entry.fates) == {"unknown": 32, "tail": 1}
