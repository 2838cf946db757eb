"""Lets the engine sleep while documents are retrieved: its memory is free meanwhile, and waking it up costs time.

vLLM's sleep (level 1) moves the weights to host memory and throws the KV cache away, so a woken engine has no cached
prefix. It is for one question at a time: a sleep aborts what other workers have in flight.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import httpx

from workload.errors import DependencyDownError
from workload.services.own_thread import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from workload.agent.metering import QuestionMeter

ResultT = TypeVar("ResultT")

STEPS = ("sleep", "wake_up")


@dataclass(frozen=True)
class EngineSleep:
    """Puts the engine behind `client` (its `base_url` is the endpoint) to sleep and wakes it up."""

    client: httpx.Client

    async def during(self, work: Awaitable[ResultT], hop: int, meter: QuestionMeter) -> ResultT:
        """Return what `work` returns; the engine falls asleep beside it and is awake again at the end.

        Raises:
            DependencyDownError: the engine does not sleep or wake up when it is told to.
        """
        asleep = asyncio.ensure_future(self._tell("sleep", hop, meter))
        try:
            found, _ = await asyncio.gather(work, asyncio.shield(asleep))
        finally:
            await _finished(asyncio.ensure_future(self._wake_after(asleep, hop, meter)))
        return found

    async def _wake_after(self, asleep: asyncio.Future[None], hop: int, meter: QuestionMeter) -> None:
        # Sent before the sleep has arrived, it would wake nobody, and the engine would sleep for good.
        await asyncio.wait([asleep])
        await self._tell("wake_up", hop, meter)

    async def _tell(self, step: str, hop: int, meter: QuestionMeter) -> None:
        with meter.pause(step, hop):
            try:
                (await in_own_thread(self.client.post, f"/{step}")).raise_for_status()
            except httpx.HTTPError as error:
                raise DependencyDownError(
                    f"The engine does not {step.replace('_', ' ')} when it is told to ({error}).",
                    "Start it with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1.",
                ) from error


async def _finished(work: asyncio.Future[None]) -> None:
    """Return once `work` has ended, however often whoever waits is cancelled; that comes afterwards."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    work.result()
    if cancelled:
        raise cancelled
