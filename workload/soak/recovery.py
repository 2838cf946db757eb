"""Proves the engine by a canary, holds the run until it answers, and has a dead or hung one started again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from workload.agent.backoff import Breaker
from workload.errors import DependencyDownError, Hop2RagError
from workload.harness.health_gate import ENGINE_REASONS
from workload.services.own_thread import in_own_thread
from workload.soak.pace import ENGINE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workload.engine.supervised import SupervisedEngine
    from workload.soak.pace import Pace

POLL_SECONDS = 1.0
HUNG_SECONDS = 30.0
"""An engine that lives and completes no token for so long hangs: a canary takes some seconds, also under load."""


class Recovery:
    """One prover for all workers and for the steering: whoever comes while it is at work waits for its answer.

    Args:
        probe: blocks until a canary completion was answered, or raises a `Hop2RagError`.
        kept: the engine, to be started again; one that is not ours is waited for.
        pace: held while the engine does not answer.
        note: called with an action and a sentence, for each restart.
        patience_seconds: how long an engine that is not ours may be silent before the run is given up.
        clock: seconds, monotonic.
        sleep: waits the given seconds.
        breaker: while it is open the engine has to be proved too: it refuses one call after the other.
    """

    def __init__(
        self,
        probe: Callable[[], object],
        kept: SupervisedEngine,
        pace: Pace,
        note: Callable[[str, str], None],
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        breaker: Breaker | None = None,
    ) -> None:
        self._probe, self._kept, self._pace, self._note = probe, kept, pace, note
        self._patience_seconds = patience_seconds
        self._clock, self._sleep = clock, sleep
        self._breaker = breaker or Breaker()
        self._lock = asyncio.Lock()
        self._healthy_at = clock()
        self.canaries = 0
        self.restarts = 0

    async def check(self, reason: str | None) -> None:
        """Return at once unless `reason` may be the engine's or it refuses all; then return once a canary was answered.

        Raises:
            DependencyDownError: it stays silent, or the circuit breaker has opened.
        """
        if reason in ENGINE_REASONS or self._breaker.is_open:
            self._pace.hold(ENGINE)  # at once: what is sent before the first canary is answered would fail as well
            await self.prove()

    async def prove(self) -> None:
        """Return when a canary asked from now on was answered; raises as `check`."""
        asked_at = self._clock()
        async with self._lock:
            if self._healthy_at > asked_at:
                self._pace.lift(ENGINE)
                return
            silent_since = self._clock()
            while not await self._answers():
                self._pace.hold(ENGINE)
                silent = self._clock() - silent_since
                if self._kept.restarts and (self._kept.has_died or silent >= HUNG_SECONDS):
                    await self._restart("died" if self._kept.has_died else f"hung for {silent:.0f} s")
                elif not self._kept.restarts and silent >= self._patience_seconds:
                    raise DependencyDownError(
                        f"vLLM has not answered a canary completion for {silent:.0f} s.",
                        "What was acknowledged is in the journal. Look at the engine, then go on with --resume.",
                    )
                else:
                    await self._sleep(POLL_SECONDS)
            self._healthy_at = self._clock()
            self._breaker.half_open()
            self._pace.lift(ENGINE)

    async def _answers(self) -> bool:
        try:
            await in_own_thread(self._probe)
        except Hop2RagError:
            return False
        self.canaries += 1
        return True

    async def _restart(self, why: str) -> None:
        starts = await asyncio.wrap_future(self._kept.restart())
        self.restarts += 1
        self._note("restart", f"the engine {why}; it answers again after {starts} start(s)")
