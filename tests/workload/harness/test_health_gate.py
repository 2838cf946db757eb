"""The gate: one canary for all workers, and an end to patience, on a clock that is ours."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from exporter.agent.instruments import ERROR_REASONS
from workload.errors import DependencyDownError
from workload.harness import health_gate as gate_module
from workload.harness.health_gate import ENGINE_REASONS, EngineGate

if TYPE_CHECKING:
    from collections.abc import Callable


class Engine:
    """Answers canaries from the n-th on; each try takes some seconds of a clock of its own."""

    def __init__(self, answers_from: int = 1, seconds_a_try: float = 10.0) -> None:
        self.tries = 0
        self.now = 0.0
        self._answers_from, self._seconds_a_try = answers_from, seconds_a_try

    def clock(self) -> float:
        """Return the time now."""
        return self.now

    def probe(self) -> None:
        """Try a canary."""
        self.tries += 1
        self.now += self._seconds_a_try
        if self.tries < self._answers_from:
            raise DependencyDownError("vLLM did not answer a canary completion.", "Restart it.")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pause between two canaries."""
    monkeypatch.setattr(gate_module, "RETRY_SECONDS", 0.0)


def gate_of(engine: Engine, patience: float = 60.0, probe: Callable[[], object] | None = None) -> EngineGate:
    """Return a gate for an engine."""
    return EngineGate(probe or engine.probe, patience, engine.clock)


@pytest.mark.parametrize("reason", [None, *sorted(set(ERROR_REASONS) - ENGINE_REASONS), "recursion_limit"])
async def test_a_question_s_own_failure_asks_no_canary(reason: str | None) -> None:
    """A prompt that is too long says nothing about the engine, and a canary would count in its metrics."""
    engine = Engine()
    await gate_of(engine).check(reason)
    assert engine.tries == 0


@pytest.mark.parametrize("reason", sorted(ENGINE_REASONS))
async def test_suspicious_failures_wait_for_a_canary(reason: str) -> None:
    """Row 6: later sends wait for health, however many tries that takes within the patience."""
    engine = Engine(answers_from=3)
    await gate_of(engine).check(reason)
    assert engine.tries == 3


async def test_workers_that_fail_together_share_a_canary() -> None:
    """Sixty-four workers fail at once when an engine dies; sixty-four canaries would be a load of their own."""
    engine, all_failed = Engine(), threading.Event()

    def probe() -> None:
        all_failed.wait(60)
        engine.probe()

    gate = gate_of(engine, probe=probe)
    checks = [asyncio.create_task(gate.check("connection")) for _ in range(64)]
    await asyncio.sleep(0)
    all_failed.set()
    await asyncio.gather(*checks)
    assert engine.tries == 1


async def test_a_later_failure_asks_anew() -> None:
    """An engine that was healthy before this failure proves nothing after it."""
    engine = Engine()
    gate = gate_of(engine)
    await gate.check("timeout")
    engine.now += 1
    await gate.check("timeout")
    assert engine.tries == 2


async def test_row_07_patience_ends() -> None:
    """A hung engine ends the run after the patience, not after 600 s for each question: exit code 4, one line."""
    engine = Engine(answers_from=10**9)
    with pytest.raises(DependencyDownError, match="not answered a canary completion for 60 s") as raised:
        await gate_of(engine).check("timeout")
    assert engine.tries == 6
    assert engine.now == 60.0
    assert raised.value.exit_code == 4
    assert "\n" not in str(raised.value)
    assert "journal" in raised.value.remedy


async def test_giving_up_leaves_the_gate_usable() -> None:
    """The lock must not stay taken: other workers are about to be cancelled and may be waiting for it."""
    engine = Engine(answers_from=3)
    gate = gate_of(engine, patience=20.0)
    with pytest.raises(DependencyDownError):
        await gate.check("timeout")
    await asyncio.wait_for(gate.check("timeout"), 60)


async def test_a_defect_in_the_canary_is_not_taken_for_a_dead_engine() -> None:
    """Only what the canary itself reports is waited for; anything else is a bug and must surface at once."""

    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await gate_of(Engine(), probe=broken).check("timeout")
