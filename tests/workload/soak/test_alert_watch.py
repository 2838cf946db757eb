"""A soak whose targets or receiver are replaced ends and says so."""

from __future__ import annotations

import asyncio

import pytest

from workload.soak.alert_watch import watch_ownership
from workload.soak.pace import Ending, Pace


@pytest.mark.parametrize("lost", ["targets", "receiver", None])
def test_what_is_replaced_ends_the_soak(lost: str | None) -> None:
    """Seen: a soak paused for hours by a heartbeat that went elsewhere, its targets gone, and "finished" with 0."""
    pace, checks = Pace(1), list[float]()

    async def sleep(seconds: float) -> None:
        checks.append(seconds)
        if len(checks) == 3:
            raise asyncio.CancelledError

    ours = {name: lambda name=name: name != lost or len(checks) < 2 for name in ("targets", "receiver")}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watch_ownership(pace, ours, sleep))  # type: ignore[arg-type]
    if lost is None:
        assert pace.ending is None
    else:
        assert pace.ending == Ending(
            f"given up: {lost} was replaced, so an unknown part was not recorded or watched", 4
        )
