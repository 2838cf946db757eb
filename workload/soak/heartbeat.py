"""Pauses a run that is no longer watched, and asks for missed alerts once it is watched again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from workload.errors import Hop2RagError
from workload.services.alert import WATCHDOG, Alert
from workload.services.own_thread import OneByOne
from workload.soak.pace import HEARTBEAT, Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from workload.soak.steering import Steering

CHECK_SECONDS = 5.0
SILENCE_SECONDS = 120.0
"""The watchdog arrives every 30 to 45 s, so two may be lost; the run is paused well within three minutes."""

DOWN_SECONDS = 60.0
"""A restart is shorter; a server that does not answer for so long is down."""

ANSWER_SECONDS = 20.0
"""A server that drips its answer byte by byte must not stop the watch."""

RECONCILE_SECONDS = 30.0


class Heartbeat:
    """Watches that alerts still arrive.

    Args:
        steering: knows when the Hop2RagWatchdog last fired, and accepts what the alerts API lists.
        pace: paused while the run is not watched; the steering limits how long.
        servers: by name, a function that blocks briefly and returns whether a server answers.
        alerts: blocks and returns the firing alerts; raises a `Hop2RagError`, or a `ValueError` if unreadable.
        prove: returns once the engine has answered a canary.
    """

    def __init__(
        self,
        *,
        steering: Steering,
        pace: Pace,
        servers: Mapping[str, Callable[[], bool]],
        alerts: Callable[[], Sequence[Alert]],
        prove: Callable[[], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steering, self._pace, self._servers = steering, pace, servers
        self._alerts, self._prove, self._monotonic = alerts, prove, monotonic
        self._asking = {name: OneByOne(ANSWER_SECONDS) for name in servers}
        self._asking_alerts = OneByOne(ANSWER_SECONDS)
        self._answered = dict.fromkeys(servers, monotonic())
        self._reconciled_at = monotonic() - RECONCILE_SECONDS  # the first check asks for what already fires
        self._lost: str | None = None

    async def keep_watching(self) -> None:
        """Check every few seconds, for as long as this runs."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """Enter the safe state, or leave it after a reconciliation and a proof of the engine; reconcile regularly.

        Raises:
            DependencyDownError: the engine stays silent.
        """
        for name, answers in self._servers.items():
            with suppress(TimeoutError):
                if await self._asking[name].run(answers):
                    self._answered[name] = self._monotonic()
        lost = self._loss()
        if lost and not self._lost:
            self._lost = lost
            if self._steering.actions.act("pause", WATCHDOG, f"safe state: {lost}"):
                self._pace.pause(HEARTBEAT)
        is_due = self._monotonic() - self._reconciled_at >= RECONCILE_SECONDS
        if not lost and (self._lost or self._steering.is_in_doubt or is_due):
            await self._reconcile()

    def _loss(self) -> str | None:
        now = self._monotonic()
        down = [name for name, at in self._answered.items() if now - at >= DOWN_SECONDS]
        if down:
            return f"{' and '.join(down)} did not answer for {DOWN_SECONDS:.0f} s"
        if now - self._steering.beaten_at >= SILENCE_SECONDS:
            return f"the Hop2RagWatchdog was silent for {SILENCE_SECONDS:.0f} s"
        return None

    async def _reconcile(self) -> None:
        try:
            firing = await self._asking_alerts.run(self._alerts)
        except (Hop2RagError, ValueError, TimeoutError):
            return  # asked again at the next check
        await self._steering.reconcile(firing)
        self._reconciled_at = self._monotonic()
        if self._lost:
            await self._prove()
            self._lost = None
            self._pace.resume(HEARTBEAT)
            detail = "watched again: alerts were asked for, a canary was answered"
            self._steering.actions.note("lift", detail, name=WATCHDOG)
