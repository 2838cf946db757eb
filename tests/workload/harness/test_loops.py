"""The closed loop: every question is accounted for once, whatever fails, raises or is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stubs.fates import FatedAgent
from tests.stubs.questions import plain_questions
from workload.errors import DependencyDownError, UsageError
from workload.harness.loops import Tally, closed_loop

FATES = st.sampled_from(["ok", "ok", "ok", "timeout", "stream_cut", "raise", "hang", "gate"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(FATES, max_size=12),
    st.integers(1, 5),
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.integers(1, 30),
)
def test_every_question_is_accounted_for(fates: list[str], concurrency: int, steps: list[int], stop_after: int) -> None:
    """The identity: scheduled = sent + dropped and sent = ok + failed + cancelled, even if stopped midway."""
    agent, tally = FatedAgent(fates, steps), Tally(len(fates))

    async def run() -> None:
        load = asyncio.create_task(closed_loop(agent.ask, plain_questions(len(fates)), concurrency, tally, agent.ended))
        for _ in range(stop_after if "hang" not in fates else 60):
            await asyncio.sleep(0)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others

    asyncio.run(run())
    counts = tally.as_dict()
    assert counts["scheduled"] == len(fates) == counts["sent"] + counts["dropped"]
    assert counts["sent"] == len(agent.asked) == counts["ok"] + sum(counts["failed"].values()) + counts["cancelled"]
    assert sorted(agent.asked) == sorted(set(agent.asked))
    assert all(worker.isdigit() for worker in agent.workers)
    assert agent.in_flight == 0
    assert agent.most_in_flight <= concurrency


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["ok", "timeout", "stream_cut"]), max_size=12), st.integers(1, 20))
def test_an_undisturbed_load_asks_everything_in_order(fates: list[str], concurrency: int) -> None:
    """Each question once, sent in the given order, each failure under its own reason, nothing dropped."""
    agent, tally = FatedAgent(fates, [1, 0, 3]), Tally(len(fates))
    asyncio.run(closed_loop(agent.ask, plain_questions(len(fates)), concurrency, tally, agent.ended))
    assert agent.asked == [question.id for question in plain_questions(len(fates))]
    assert tally.as_dict() == {
        "scheduled": len(fates),
        "sent": len(fates),
        "dropped": 0,
        "ok": fates.count("ok"),
        "failed": {reason: fates.count(reason) for reason in dict.fromkeys(fates) if reason != "ok"},
        "cancelled": 0,
    }


async def test_a_raised_error_reaches_the_caller_and_stops_the_rest() -> None:
    """The run has to end with the store's own error; what was in flight is cancelled, what was not sent is dropped."""
    agent, tally = FatedAgent(["hang", "raise", "ok", "ok"], [1]), Tally(4)
    with pytest.raises(DependencyDownError, match="Chroma"):
        await closed_loop(agent.ask, plain_questions(4), 2, tally, agent.ended)
    assert (tally.sent, tally.dropped, tally.cancelled, tally.ok) == (2, 2, 2, 0)


async def test_a_worker_waits_for_the_gate_before_it_sends_again() -> None:
    """Row 6: sends after a suspicious failure wait for health; a loop that went on would fail everything left."""
    opened = asyncio.Event()
    agent, tally = FatedAgent(["timeout", "ok"], [0]), Tally(2)

    async def wait(reason: str | None) -> None:
        if reason:
            await opened.wait()

    load = asyncio.create_task(closed_loop(agent.ask, plain_questions(2), 1, tally, wait))
    for _ in range(20):
        await asyncio.sleep(0)
    assert agent.asked == ["0"]
    opened.set()
    await load
    assert (tally.ok, tally.failed.total()) == (1, 1)


@pytest.mark.parametrize("concurrency", [-1, 0, 1025, 10**9])
async def test_row_20_an_impossible_concurrency_is_refused(concurrency: int) -> None:
    """Zero workers would end at once with nothing asked, a billion not at all."""
    agent, tally = FatedAgent([], [0]), Tally(0)
    with pytest.raises(UsageError, match="1 to 1024"):
        await closed_loop(agent.ask, [], concurrency, tally, agent.ended)


def test_a_lost_question_is_a_bug_and_never_a_result() -> None:
    """The identity is checked wherever counts leave the load, so a wrong report cannot be written."""
    with pytest.raises(AssertionError, match="does not add up"):
        Tally(3, sent=3, ok=1).as_dict()
