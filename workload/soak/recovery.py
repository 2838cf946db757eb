"""Proves the engine by a canary, pauses the run until it answers, and has a dead or hung engine restarted."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from workload.agent.backoff import Breaker
from workload.errors import DependencyDownError, Hop2RagError
from workload.harness.health_gate import ENGINE_REASONS
from workload.services.own_thread import in_own_thread
from workload.soak.pace import ENGINE, Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workload.engine.supervised import SupervisedEngine

POLL_SECONDS = 1.0
HUNG_SECONDS = 30.0
"""An engine that runs and completes no token for so long hangs: even under load a canary takes only seconds."""


class Recovery:
    """Proves the engine for all workers and for the steering; concurrent callers share one proof.

    Args:
        probe: blocks until a canary completion was answered, or raises a `Hop2RagError`.
        supervised: the engine, restarted if it is ours, else waited for.
        pace: paused while the engine does not answer.
        note: called with an action and a sentence for each restart.
        patience_seconds: how long an engine that is not ours may be silent before the run is given up.
        breaker: while it is open the engine must be proved too, because it refuses every call.
    """

    def __init__(
        self,
        *,
        probe: Callable[[], object],
        supervised: SupervisedEngine,
        pace: Pace,
        note: Callable[[str, str], None],
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        breaker: Breaker | None = None,
    ) -> None:
        self._probe, self._supervised, self._pace, self._note = probe, supervised, pace, note
        self._patience_seconds = patience_seconds
        self._clock, self._sleep = clock, sleep
        self._breaker = breaker or Breaker()
        self._lock = asyncio.Lock()
        self._healthy_at = clock()
        self.restarts = 0

    async def check(self, reason: str | None) -> None:
        """Return at once, or once a canary is answered if `reason` may be the engine's fault or it refuses every call.

        Raises:
            DependencyDownError: the engine stays silent, or was restarted too often.
        """
        if reason in ENGINE_REASONS or self._breaker.is_open:
            self._pace.pause(ENGINE)  # at once: questions sent before the engine answers would fail too
            await self.prove()

    async def prove(self) -> None:
        """Return once a canary sent from now on was answered. Raises as `check`."""
        asked_at = self._clock()
        async with self._lock:
            if self._healthy_at > asked_at:
                self._pace.resume(ENGINE)
                return
            silent_since = self._clock()
            while not await self._answers():
                self._pace.pause(ENGINE)
                silent = self._clock() - silent_since
                if self._supervised.restarts and (self._supervised.has_died or silent >= HUNG_SECONDS):
                    await self._restart("died" if self._supervised.has_died else f"hung for {silent:.0f} s")
                elif not self._supervised.restarts and silent >= self._patience_seconds:
                    raise DependencyDownError(
                        f"vLLM has not answered a canary completion for {silent:.0f} s.",
                        "Look at the engine, then continue with --resume: acknowledged questions are in the journal.",
                    )
                else:
                    await self._sleep(POLL_SECONDS)
            self._healthy_at = self._clock()
            self._breaker.half_open()
            self._pace.resume(ENGINE)

    async def _answers(self) -> bool:
        try:
            await in_own_thread(self._probe)
        except Hop2RagError:
            return False
        return True

    async def _restart(self, why: str) -> None:
        starts = await asyncio.wrap_future(self._supervised.restart())
        self.restarts += 1
        self._note("restart", f"the engine {why}; it answers again after {starts} start(s)")
