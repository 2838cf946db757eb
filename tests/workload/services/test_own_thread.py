"""What blocks has a thread of its own, so that nothing else waits for it, the end of the process included."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from workload.services.own_thread import OneByOne, in_own_thread


async def test_row_23_hung_calls_take_no_thread_from_anybody() -> None:
    """The usual pool has a handful of threads for all: a few hung calls, and no checkpoint is written any more."""
    gate = threading.Event()
    hung = [asyncio.create_task(in_own_thread(gate.wait, 60)) for _ in range(50)]
    assert await asyncio.wait_for(in_own_thread(int, "7"), 30) == 7
    assert await asyncio.wait_for(asyncio.to_thread(int, "7"), 30) == 7
    gate.set()
    assert all(await asyncio.gather(*hung))


async def test_what_is_raised_is_raised() -> None:
    """A reason must arrive where it is waited for."""
    with pytest.raises(ValueError, match="seven"):
        await in_own_thread(int, "seven")


async def test_one_who_stops_waiting_stops_no_other() -> None:
    """A soak that ends cancels what waits; the call ends when it ends, and its result is dropped."""
    gate = threading.Event()
    task = asyncio.create_task(in_own_thread(gate.wait, 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()


def test_row_23_a_call_that_never_returns_does_not_keep_the_process() -> None:
    """Threads of a pool are joined at the end: one on a dead server kept a finished run for ever."""
    code = (
        "import asyncio, threading\n"
        "from workload.services.own_thread import in_own_thread\n"
        "async def main():\n"
        "    asyncio.ensure_future(in_own_thread(threading.Event().wait))\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


async def test_one_by_one_is_one_by_one_even_after_one_was_given_up() -> None:
    """What was left to itself still runs: the next one waits for its end, and gives up when that takes too long."""
    gate, line = threading.Event(), OneByOne(0.05)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await line.run(gate.wait, 60)
    assert sum(thread.name == "wait" for thread in threading.enumerate()) == 1
    gate.set()
    line = OneByOne(30)
    assert await line.run(int, "7") == 7
