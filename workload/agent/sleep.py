"""Puts the engine to sleep while documents are retrieved: that frees its memory, and waking it up takes time.

vLLM's sleep (level 1) moves the weights to host memory and discards the KV cache, so a woken engine has no cached
prefix. Use it with one question at a time: a sleep aborts the calls of other workers.
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
        """Return the result of `work`; the engine sleeps meanwhile and is awake again at the end.

        Raises:
            DependencyDownError: the engine does not sleep or wake up on request.
        """
        asleep = asyncio.ensure_future(self._request("sleep", hop, meter))
        try:
            found, _ = await asyncio.gather(work, asyncio.shield(asleep))
        finally:
            await _finished(asyncio.ensure_future(self._wake_after(asleep, hop, meter)))
        return found

    async def _wake_after(self, asleep: asyncio.Future[None], hop: int, meter: QuestionMeter) -> None:
        # A wake-up that arrives before the sleep would do nothing, and the engine would stay asleep.
        await asyncio.wait([asleep])
        await self._request("wake_up", hop, meter)

    async def _request(self, step: str, hop: int, meter: QuestionMeter) -> None:
        with meter.pause(step, hop):
            try:
                (await in_own_thread(self.client.post, f"/{step}")).raise_for_status()
            except httpx.HTTPError as error:
                raise DependencyDownError(
                    f"The engine does not {step.replace('_', ' ')} on request ({error}).",
                    "Start it with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1.",
                ) from error


async def _finished(work: asyncio.Future[None]) -> None:
    """Wait until `work` has ended, even if the waiting task is cancelled; then raise the cancellation."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    work.result()
    if cancelled:
        raise cancelled
