"""A soak whose targets or receiver are replaced ends and says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.stubs.alerts import alert
from workload.errors import DependencyDownError
from workload.soak.alert_watch import heartbeat_in, watch_ownership
from workload.soak.pace import Ending, Pace


@pytest.mark.parametrize("name", ["Hop2RagWatchdog", "VllmDown", None])
def test_a_heartbeat_is_read_where_none_is_sent(name: str | None) -> None:
    """In compose the name of a soak resolves only while it runs; a heartbeat sent there fails at all other times."""
    beats = list[None]()

    def firing() -> list[Any]:
        if name is None:
            raise DependencyDownError("Alertmanager is away.", "Start it.")
        return [alert(name, ""), {"odd": "alert"}]

    hears = heartbeat_in(SimpleNamespace(firing=firing), lambda: beats.append(None))  # type: ignore[arg-type]
    assert hears() == bool(beats) == (name == "Hop2RagWatchdog")


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
