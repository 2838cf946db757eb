"""What may be sent, and what ends it."""

from __future__ import annotations

import asyncio

import pytest

from workload.soak.pace import Ending, Pace


@pytest.mark.parametrize("wanted", [*range(1, 17), 31, 100, 1024])
def test_the_level_follows_from_the_reductions_in_force(wanted: int) -> None:
    """An odd level never came back (5 -> 2 -> 4), and one of four reductions lifted gave back while three were left."""
    pace = Pace(wanted)
    down = [pace.halve() for _ in range(12)]
    assert down == [max(1, wanted >> number) for number in range(1, 13)]
    assert [pace.restore() for _ in range(12)] == [*down[-2::-1], wanted]
    assert [pace.restore(), pace.level] == [wanted, wanted]


async def test_every_hold_must_be_lifted() -> None:
    """An engine that answers again does not undo the pause of an alert."""
    pace = Pace(1)
    pace.pause("engine")
    pace.pause("VllmDown")
    waiting = asyncio.create_task(pace.room())
    pace.resume("engine")
    await asyncio.sleep(0.01)
    assert not waiting.done()
    pace.resume("VllmDown")
    async with asyncio.timeout(2):
        assert await waiting is True


async def test_the_end_frees_whoever_waits() -> None:
    """A paused run can be ended; what waits for room or for an arrival must not delay it."""
    pace = Pace(1)
    pace.pause("disk")
    waiting = [asyncio.create_task(pace.room()), asyncio.create_task(pace.ends_within(60))]
    await asyncio.sleep(0)
    pace.end("SIGTERM", 143)
    pace.end("later", 0)
    async with asyncio.timeout(2):
        assert await asyncio.gather(*waiting) == [False, True]
    assert pace.ending == Ending("SIGTERM", 143)


@pytest.mark.parametrize(("leaves", "drained"), [(1, True), (0, False)])
async def test_draining_is_bounded(leaves: int, drained: bool) -> None:
    """A question that never ends must not keep the run from ending."""
    pace = Pace(2)
    pace.enter()
    for _ in range(leaves):
        asyncio.get_running_loop().call_later(0.01, pace.leave)
    assert await pace.drained(0.1) is drained
