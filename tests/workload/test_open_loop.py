"""The open loop: questions come when they come, a slow system shows, and the account is still right."""

from __future__ import annotations

import asyncio
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workload.corpus.hotpotqa import Question
from workload.errors import DependencyDownError
from workload.load import Tally, open_loop, poisson

if TYPE_CHECKING:
    from collections.abc import Sequence

FATES = st.sampled_from(["ok", "ok", "timeout", "raise", "gate", "hang"])


def questions(number: int) -> list[Question]:
    """Return questions that differ in nothing but their ids."""
    return [Question(str(index), "?", "", "bridge", "easy", (), ()) for index in range(number)]


class Agent:
    """Takes some seconds for each question and notes when each was intended and sent."""

    def __init__(self, seconds: float = 0.0, fates: Sequence[str] = ()) -> None:
        self.seconds, self.fates = seconds, fates
        self.asked: list[tuple[str, float, float]] = []
        self.workers: set[str] = set()
        self.most_in_flight = 0

    async def ask(self, question: Question, worker: str, intended: float) -> str | None:
        """Ask a question."""
        self.asked.append((question.id, intended, asyncio.get_running_loop().time()))
        assert worker not in self.workers, "two questions of one worker at a time"
        self.workers.add(worker)
        self.most_in_flight = max(self.most_in_flight, len(self.workers))
        try:
            await asyncio.sleep(self.seconds)
            fate = self.fates[int(question.id)] if self.fates else "ok"
            if fate == "hang":
                await asyncio.Event().wait()
            if fate == "raise":
                raise DependencyDownError("Chroma is gone.")
            return None if fate == "ok" else fate
        finally:
            self.workers.remove(worker)

    async def ended(self, reason: str | None) -> None:
        """Give up as a gate does."""
        if reason == "gate":
            raise DependencyDownError("vLLM is gone.")


async def run(agent: Agent, arrivals: Sequence[float], in_flight: int = 100) -> Tally:
    """Run a load to its end and return its account."""
    tally = Tally(len(arrivals))
    clock = asyncio.get_running_loop().time
    await open_loop(agent.ask, questions(len(arrivals)), arrivals, in_flight, tally, agent.ended, clock)
    return tally


async def test_a_slow_system_does_not_slow_its_users() -> None:
    """A closed loop sends less when answers take longer, and so hides the queue that users would stand in."""
    arrivals = [0.01 * number for number in range(20)]
    agent = Agent(seconds=0.3)
    tally = await run(agent, arrivals)
    assert tally.ok == 20
    assert agent.most_in_flight == 20


async def test_intended_instants_are_the_arrivals_own() -> None:
    """Latency counts from here; taken from the sending instead, the client's own lag would disappear."""
    arrivals = [0.0, 0.02, 0.05]
    agent = Agent()
    await run(agent, arrivals)
    intended = [instant for _, instant, _ in agent.asked]
    assert [round(instant - intended[0], 6) for instant in intended] == arrivals
    assert all(sent >= at for _, at, sent in agent.asked)


async def test_too_many_in_flight_are_dropped_and_counted() -> None:
    """An overloaded engine must not take the client down with it; what was not sent is told, never forgotten."""
    agent = Agent(seconds=0.2)
    tally = await run(agent, [0.0] * 5, in_flight=2)
    assert (tally.sent, tally.dropped, tally.ok, agent.most_in_flight) == (2, 3, 2, 2)


@settings(max_examples=60)
@given(st.lists(FATES, max_size=10), st.integers(1, 6), st.integers(0, 40))
def test_every_question_is_accounted_for(fates: list[str], in_flight: int, stop_after: int) -> None:
    """The identity: scheduled = sent + dropped and sent = ok + failed + cancelled, even if stopped midway."""
    agent, tally = Agent(fates=fates), Tally(len(fates))

    async def stopped() -> None:
        load = asyncio.create_task(
            open_loop(agent.ask, questions(len(fates)), [0.0] * len(fates), in_flight, tally, agent.ended)
        )
        for _ in range(stop_after):
            await asyncio.sleep(0)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(stopped())
    counts = tally.as_dict()
    assert counts["scheduled"] == len(fates) == counts["sent"] + counts["dropped"]
    assert counts["sent"] == len(agent.asked)
    assert agent.most_in_flight <= in_flight


@pytest.mark.parametrize(("fate", "message"), [("raise", "Chroma"), ("gate", "vLLM")])
async def test_an_error_reaches_the_caller_as_itself(fate: str, message: str) -> None:
    """A group of errors would be a traceback to the user and hide the exit code of what happened."""
    with pytest.raises(DependencyDownError, match=message):
        await asyncio.wait_for(run(Agent(fates=[fate, "hang"]), [0.0, 0.0]), 5)


def test_poisson_arrivals_are_what_they_say() -> None:
    """Two a second on average, gaps as scattered as their mean (exponential), the same for the same seed."""
    arrivals = poisson(2.0, 20_000, seed=1)
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert statistics.fmean(gaps) == pytest.approx(0.5, rel=0.03)
    assert statistics.pstdev(gaps) == pytest.approx(0.5, rel=0.03)
    assert poisson(2.0, 10, seed=1) == arrivals[:10] != poisson(2.0, 10, seed=2)
