"""A soak has its targets and its receiver to itself: once they are replaced it ends, and says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workload.soak.pace import Pace

CHECK_SECONDS = 5.0
EXIT_CODE = 4


async def keep_possession(
    pace: Pace, ours: dict[str, Callable[[], bool]], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """End the run once something is no longer ours.

    Args:
        pace: is ended, with the exit code of a dependency that is down.
        ours: by name, what returns whether it is still as we wrote it.
        sleep: waits the given seconds.
    """
    while True:
        for name, is_ours in ours.items():
            if not await asyncio.to_thread(is_ours):
                pace.end(f"given up: {name} was replaced, so an unknown part was not recorded or watched", EXIT_CODE)
        await sleep(CHECK_SECONDS)
