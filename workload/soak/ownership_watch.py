"""Ends a soak whose target files or alert receiver were replaced by another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workload.soak.pace import Pace

CHECK_SECONDS = 5.0
EXIT_CODE = 4


async def watch_ownership(
    pace: Pace, ours: dict[str, Callable[[], bool]], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Check every few seconds, and end the run once a file is no longer ours.

    Args:
        pace: ended with the exit code of a dependency that is down.
        ours: by name, a function that returns whether a file is still as we wrote it.
        sleep: waits the given seconds.
    """
    while True:
        for name, is_ours in ours.items():
            if not await asyncio.to_thread(is_ours):
                pace.end(
                    f"given up: {name} was replaced, so an unknown part was not recorded or watched",
                    EXIT_CODE,
                )
        await sleep(CHECK_SECONDS)
