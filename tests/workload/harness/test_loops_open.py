"""The open loop: users do not wait for one another, and a late client must not hide the queue."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.fates import FatedAgent
from tests.stubs.questions import plain_questions
from workload.errors import DependencyDownError
from workload.experiments.arrivals import poisson
from workload.harness.loops import Tally, open_loop

FATES = st.sampled_from(["ok", "ok", "timeout", "raise", "hang", "gate"])


@settings(max_examples=100, deadline=None)
@given(st.lists(FATES, max_size=10), st.integers(1, 4), st.integers(1, 30))
def test_every_question_is_accounted_for(fates: list[str], in_flight: int, stop_after: int) -> None:
    """The identity of the closed loop is true here too, drops included: scheduled = sent + dropped."""
    tally = Tally(len(fates))

    async def run() -> FatedAgent:
        agent = FatedAgent(fates)
        arrivals = [0.0] * len(fates)
        load = asyncio.create_task(
            open_loop(
                agent.ask, plain_questions(len(fates)), arrivals, in_flight=in_flight, tally=tally, ended=agent.ended
            )
        )
        for _ in range(stop_after if "hang" not in fates else 60):
            await asyncio.sleep(0)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        return agent

    agent = asyncio.run(run())
    counts = tally.as_dict()
    assert counts["scheduled"] == len(fates) == counts["sent"] + counts["dropped"]
    assert counts["sent"] == len(agent.asked)
    assert agent.in_flight == 0
    assert agent.most_in_flight <= in_flight


async def test_questions_are_sent_though_none_has_ended() -> None:
    """In a closed loop a stuck system is asked less, so its latency looks as if no question had arrived meanwhile."""
    agent, tally = FatedAgent(["wait"] * 5), Tally(5)
    arrivals = [0.0, 0.01, 0.02, 0.03, 0.04]
    load = asyncio.create_task(
        open_loop(agent.ask, plain_questions(5), arrivals, in_flight=8, tally=tally, ended=agent.ended)
    )
    while len(agent.asked) < 5:  # noqa: ASYNC110 - a load that waits for an answer never gets there
        await asyncio.sleep(0.01)
    assert tally.ok == 0
    agent.released.set()
    await load
    assert tally.ok == 5
    assert len(set(agent.workers)) == 5


async def test_latency_counts_from_when_a_question_was_to_be_sent() -> None:
    """A client that is busy for 0.1 s sends the rest late; from their real sending they would look quick."""
    agent, tally = FatedAgent(["block", "ok", "ok"]), Tally(3)
    await open_loop(agent.ask, plain_questions(3), [0.0, 0.01, 0.02], in_flight=8, tally=tally, ended=agent.ended)
    start = agent.intended[0]
    assert start is not None
    assert agent.intended == pytest.approx([start, start + 0.01, start + 0.02], abs=1e-9)
    assert min(agent.sent[1:]) >= start + 0.1


async def test_what_comes_while_too_many_are_in_flight_is_dropped_and_counted() -> None:
    """Without a bound a stuck engine would collect questions until the client runs out of memory."""
    agent, tally = FatedAgent(["wait"] * 5), Tally(5)
    load = asyncio.create_task(
        open_loop(agent.ask, plain_questions(5), [0.0] * 5, in_flight=2, tally=tally, ended=agent.ended)
    )
    for _ in range(20):
        await asyncio.sleep(0)
    agent.released.set()
    await load
    assert (tally.sent, tally.ok, tally.dropped) == (2, 2, 3)


async def test_a_raised_error_reaches_the_caller_and_stops_the_rest() -> None:
    """The run ends with the store's own error, never with a group of errors that does not fit into a line."""
    agent, tally = FatedAgent(["hang", "raise", "ok"]), Tally(3)
    with pytest.raises(DependencyDownError, match="Chroma"):
        await open_loop(agent.ask, plain_questions(3), [0.0, 0.0, 9.0], in_flight=8, tally=tally, ended=agent.ended)
    assert (tally.sent, tally.cancelled, tally.dropped) == (2, 2, 1)


async def test_nothing_is_sent_while_the_gate_holds() -> None:
    """Row 6: a loop that went on while the engine is dead would fail everything that is left."""
    opened = asyncio.Event()
    agent, tally = FatedAgent(["timeout", "ok", "ok"]), Tally(3)

    async def wait(reason: str | None) -> None:
        if reason:
            await opened.wait()

    load = asyncio.create_task(
        open_loop(agent.ask, plain_questions(3), [0.0, 0.02, 0.04], in_flight=8, tally=tally, ended=wait)
    )
    await asyncio.sleep(0.1)
    assert len(agent.asked) == 1
    opened_at = time.perf_counter()
    opened.set()
    await load
    assert (tally.ok, tally.failed.total()) == (2, 1)
    assert min(agent.sent[1:]) >= opened_at


@given(st.floats(0.01, 1000), st.integers(0, 2**63 - 1))
def test_arrivals_are_seeded_and_in_order(rate: float, seed: int) -> None:
    """Two arms are compared under the same arrivals, or their queues differ by chance."""
    arrivals = poisson(rate, 50, seed)
    assert arrivals == poisson(rate, 50, seed)
    assert list(arrivals) == sorted(arrivals)
    assert len(arrivals) == 50


def test_arrivals_are_a_poisson_process() -> None:
    """Evenly spaced arrivals would never queue where real ones do: gaps vary as much as they are long."""
    gaps = np.diff(poisson(2.0, 20_001, seed=1))
    assert gaps.mean() == pytest.approx(0.5, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.03)
