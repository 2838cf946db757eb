"""Stops sending questions while the engine does not answer, and ends the run if it stays silent."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from workload.agent.backoff import Breaker
from workload.errors import DependencyDownError, Hop2RagError
from workload.services.own_thread import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Callable

# Failure reasons that may be the engine's fault and not the question's.
ENGINE_REASONS = frozenset({"connection", "timeout", "stream_cut", "server_error"})
RETRY_SECONDS = 1.0


class EngineGate:
    """Sends the engine a canary completion after a suspicious failure; all workers wait for the same answer.

    Args:
        probe: blocks until a canary completion is answered, or raises a `Hop2RagError`.
        patience_seconds: how long the engine may be silent before the run ends.
        breaker: while it is open, because the engine refuses call after call, all workers wait too.
    """

    def __init__(
        self,
        probe: Callable[[], object],
        patience_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        breaker: Breaker | None = None,
    ) -> None:
        self._probe = probe
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._breaker = breaker or Breaker()
        self._lock = asyncio.Lock()
        self._healthy_at = clock()

    async def check(self, reason: str | None) -> bool:
        """Return at once unless `reason` is suspicious or the breaker is open; then return once a canary is answered.

        True only for the worker that ran the probe: the engine may have restarted with an empty cache.

        Raises:
            DependencyDownError: the engine did not answer within the patience.
        """
        if reason not in ENGINE_REASONS and not self._breaker.is_open:
            return False
        failed_at = self._clock()
        async with self._lock:
            if self._healthy_at > failed_at:
                return False  # another worker has probed it since
            while True:
                try:
                    await in_own_thread(self._probe)
                except Hop2RagError as error:
                    if self._clock() - failed_at >= self._patience_seconds:
                        raise DependencyDownError(
                            f"vLLM has not answered a canary completion for {self._patience_seconds:.0f} s "
                            f"({error.cause})",
                            "Acknowledged questions are in the journal. Look at the engine's log, then resume the run.",
                        ) from error
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    self._healthy_at = self._clock()
                    self._breaker.half_open()
                    return True
