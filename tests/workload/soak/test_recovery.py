"""Proving the engine, and having it started again: on a clock of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from exporter.agent.instruments import ERROR_REASONS
from workload.agent.backoff import MAX_REFUSALS, Breaker
from workload.errors import DependencyDownError
from workload.harness.health_gate import ENGINE_REASONS
from workload.soak.pace import Pace
from workload.soak.recovery import HUNG_SECONDS, Recovery


@dataclass
class Engine:
    """An engine that can be ours or somebody else's, alive or dead, answering or not, and all that asks it."""

    restarts: bool = True
    has_died: bool = False
    answers: bool = True
    recovers_at: float | None = None
    now: float = 0.0
    canaries: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pace = Pace(2)
        self.breaker = Breaker()
        self.recovery = Recovery(
            probe=self.probe,
            supervised=cast("Any", self),
            pace=self.pace,
            note=self.note,
            patience_seconds=600.0,
            clock=lambda: self.now,
            sleep=self.sleep,
            breaker=self.breaker,
        )

    def probe(self) -> None:
        """Answer a canary, or let ten seconds pass and fail."""
        self.canaries += 1
        self.held.append(bool(self.pace.pauses))
        self.now += 0.1
        if self.recovers_at is not None and self.now >= self.recovers_at:
            self.answers = True
        if self.has_died or not self.answers:
            self.now += 0 if self.has_died else 10
            raise DependencyDownError("no canary")

    def restart(self) -> Future[int]:
        """Start again."""
        self.has_died, self.answers = False, True
        done: Future[int] = Future()
        done.set_result(1)
        return done

    def note(self, action: str, detail: str) -> None:
        """Keep what is written down."""
        self.notes.append((action, detail))

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.mark.parametrize("reason", [None, *sorted(set(ERROR_REASONS) - ENGINE_REASONS)])
async def test_a_question_s_own_failure_asks_no_canary(reason: str | None) -> None:
    """A prompt that is too long says nothing about the engine."""
    engine = Engine()
    await engine.recovery.check(reason)
    assert engine.canaries == 0


async def test_row_06_a_dead_engine_is_started_at_once() -> None:
    """A process that has ended will not answer, however long one waits; what happened is written down."""
    engine = Engine(has_died=True)
    await engine.recovery.check("connection")
    assert engine.now < HUNG_SECONDS
    assert engine.recovery.restarts == 1
    assert engine.notes == [("restart", "the engine died; it answers again after 1 start(s)")]


async def test_row_07_a_hung_engine_is_started_after_its_time() -> None:
    """It lives and its /health is fine; half a minute without one token, and no question waits for 600 s."""
    engine = Engine(answers=False)
    await engine.recovery.check("timeout")
    assert HUNG_SECONDS <= engine.now < 2 * HUNG_SECONDS
    assert engine.notes[0][0] == "restart"
    assert "hung" in engine.notes[0][1]


async def test_nothing_is_sent_until_it_answers() -> None:
    """What would be sent now would only fail as well."""
    engine = Engine(answers=False, recovers_at=15.0)
    await engine.recovery.check("timeout")
    assert engine.held == [True] * len(engine.held)
    assert engine.pace.pauses == set()
    assert engine.recovery.restarts == 0


async def test_somebody_else_s_engine_is_waited_for_and_given_up() -> None:
    """It is not ours to kill; the run ends with exit code 4 after the patience."""
    engine = Engine(restarts=False, answers=False)
    with pytest.raises(DependencyDownError, match=r"for 6[01]\d s") as raised:
        await engine.recovery.check("timeout")
    assert raised.value.exit_code == 4
    assert engine.recovery.restarts == 0


async def test_all_who_failed_together_wait_for_one_answer() -> None:
    """Eight workers must not start the engine eight times."""
    engine = Engine(has_died=True)
    await asyncio.gather(*(engine.recovery.check("connection") for _ in range(8)))
    assert engine.recovery.restarts == 1


async def test_row_08_a_storm_of_refusals_has_to_be_over_before_anybody_sends() -> None:
    """An open breaker stops every call at once; without a proof it would stop them for the rest of the night."""
    engine = Engine()
    for _ in range(MAX_REFUSALS):
        engine.breaker.refused()
    await engine.recovery.check(None)
    assert engine.canaries == 1
    assert not engine.breaker.is_open
    await engine.recovery.check("overloaded")
    assert engine.canaries == 1
