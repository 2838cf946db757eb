"""The sender of a soak by itself: who is sent again, what is counted, and what ends it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.stubs.questions import questions_about
from workload.errors import DependencyDownError, StorageError
from workload.soak.pace import Pace
from workload.soak.question_stream import QuestionStream
from workload.soak.sender import FINISHED, Sender, SoakTally

if TYPE_CHECKING:
    from workload.corpus.hotpotqa import Question
    from workload.harness.driver import Phase

Fate = str | BaseException | None


@dataclass
class World:
    """A driver, its meter and its gate, without an engine.

    Attributes:
        fates: by question id, how each of its attempts ends; None for an answer, "hang" for one that never ends.
        events: questions sent, with their attempt, and reasons that the gate was asked about, in their order.
        now: seconds; each look at the clock takes one, so no arrival of an open loop is waited for.
        stops_after, ends_after: when the run ends, in seconds, and in answers.
    """

    fates: dict[str, list[Fate]] = field(default_factory=dict)
    concurrency: int = 1
    events: list[tuple[str, Any]] = field(default_factory=list)
    now: float = 0.0
    stops_after: int | None = None
    ends_after: int | None = None

    def __post_init__(self) -> None:
        self.meter = self.recorder = self
        self.pace = Pace(self.concurrency, self.clock)
        self.tally = SoakTally()
        self.stream = QuestionStream(questions_about(range(7)), 0)

    def clock(self) -> float:
        """Return the time, which passes."""
        self.now += 1.0
        if self.stops_after and self.now > self.stops_after:
            self.pace.end(FINISHED)
        return self.now

    async def acknowledge(self) -> None:
        """Write to no journal; end the run after so many answers."""
        if self.ends_after and self.tally.ok >= self.ends_after:
            self.pace.end(FINISHED)

    async def check(self, reason: str | None) -> None:
        """Prove an engine that answers."""
        self.events.append(("gate", reason))

    async def ask(self, phase: Phase, question: Question, worker: str, _intended: float | None) -> str | None:
        """End as the question's next fate says."""
        assert worker in map(str, range(self.concurrency))
        self.events.append((question.id, phase.sent_before[question.id] + 1))
        fates = self.fates.get(question.id, [])
        fate = fates.pop(0) if fates else None
        await asyncio.sleep(0)
        if fate == "hang":
            await asyncio.Event().wait()
        if isinstance(fate, BaseException):
            raise fate
        return fate

    async def send(self, **options: Any) -> None:
        """Run a sender."""
        sender = Sender(
            driver=cast("Any", self),
            gate=self,
            stream=self.stream,
            pace=self.pace,
            segment=lambda: 0,
            tally=self.tally,
            **{
                "arm": "a",
                "salt": "s",
                "repeats": False,
                "rate": None,
                "most": None,
                "drain_seconds": 0.0,
                "seed": 0,
                **options,
            },
        )
        await asyncio.wait_for(sender.run(), 30)
        sent = self.tally.ok + self.tally.failed.total() + self.tally.cancelled
        assert (self.tally.sent, self.pace.in_flight) == (sent, 0)

    def order(self) -> list[str]:
        """Return the ids of the corpus in the order of the first lap."""
        twin = QuestionStream(questions_about(range(7)), 0)
        return [twin.take().question.id for _ in range(7)]


@pytest.mark.parametrize("options", [{}, {"rate": 1.0}], ids=["closed", "open"])
async def test_the_last_question_fails_with_the_engine(options: dict[str, Any]) -> None:
    """The run is not over when it was sent: its retry is still to come, after the engine was proved."""
    world = World()
    last = world.order()[2]
    world.fates = {last: ["connection", None]}
    await world.send(most=3, **options)
    assert world.events[-4:] == [(last, 1), ("gate", "connection"), (last, 2), ("gate", None)]
    assert (world.tally.sent, world.tally.ok, world.tally.failed) == (4, 3, Counter({"connection": 1}))
    assert world.tally.retried == 1
    assert world.pace.ending == (FINISHED, 0)


@pytest.mark.parametrize(("reason", "attempts"), [("server_error", 2), ("context_too_long", 1)])
async def test_only_the_engine_s_failures_are_sent_again(reason: str, attempts: int) -> None:
    """A question that is too long fails every time; and the engine's own failures end after one retry too."""
    world = World()
    first = world.order()[0]
    world.fates = {first: [reason, reason, reason]}
    await world.send(most=2)
    assert [event for event in world.events if event[0] == first] == [(first, number + 1) for number in range(attempts)]
    assert world.tally.failed == Counter({reason: attempts})
    assert world.tally.ok == 1


@pytest.mark.parametrize("is_first", [True, False])
async def test_of_failures_at_the_same_time_none_is_lost(is_first: bool) -> None:
    """The exit code is the disk's, which ends a run at once; what else failed was dropped without a word."""
    world = World(concurrency=2)
    disk, store = StorageError("The disk is full."), DependencyDownError("Chroma is gone.")
    world.fates = dict(zip(world.order(), [[disk], [store]] if is_first else [[store], [disk]], strict=False))
    with pytest.raises(StorageError) as raised:
        await world.send(most=7)
    assert raised.value is disk
    assert disk.__notes__ == ["Failed at the same time: DependencyDownError: Chroma is gone."]
    assert isinstance(disk.__cause__, BaseExceptionGroup)
    assert world.tally.cancelled == 2


async def test_questions_that_do_not_end_are_cancelled_and_counted() -> None:
    """A soak of eight hours must not wait for one answer for ever."""
    world = World(concurrency=2)
    world.fates = {world.order()[1]: ["hang"]}
    world.ends_after = 3
    await world.send()
    assert world.tally.cancelled >= 1
    assert world.tally.as_dict()["scheduled"] == world.tally.sent


async def test_arrivals_are_counted_whatever_becomes_of_them() -> None:
    """The offered load is not the sent one: an arrival in a pause, or without a free slot, is not forgotten."""
    paused = World(stops_after=20)
    paused.pace.pause("VllmDown")
    await paused.send(rate=1.0)
    assert paused.tally.paused == paused.tally.scheduled > 0
    assert (paused.tally.sent, paused.tally.dropped) == (0, 0)
    full = World(stops_after=20)
    full.fates = {full.order()[0]: ["hang"]}
    await full.send(rate=1.0)
    assert (full.tally.sent, full.tally.cancelled, full.tally.paused) == (1, 1, 0)
    assert full.tally.dropped == full.tally.scheduled - 1 > 0


async def test_each_lap_has_a_salt_unless_it_repeats() -> None:
    """With the salt of the lap before, a repeated question would find its own prefix in the cache."""
    salts: dict[bool, set[str]] = {}
    for repeats in (False, True):
        world, seen = World(), set[str]()
        ask = world.ask

        async def spying(phase: Phase, *parts: Any, ask: Any = ask, seen: set[str] = seen) -> str | None:
            seen.add(phase.salt)
            return cast("str | None", await ask(phase, *parts))

        world.ask = spying  # type: ignore[method-assign]
        await world.send(most=15, repeats=repeats)
        salts[repeats] = seen
    assert salts == {False: {"s-0", "s-1", "s-2"}, True: {"s"}}
