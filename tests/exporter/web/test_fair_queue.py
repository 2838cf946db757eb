"""Turns are fair: the client that asks most waits longest, and one that leaves stops no other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from exporter.web.fair_queue import BusyError, Turns, network_of


class Crowd:
    """Clients that have their turns when they are let."""

    def __init__(self, most: int) -> None:
        self.turns = Turns(most)
        self.had: list[str] = []
        self.go = asyncio.Event()

    async def ask(self, client: str) -> None:
        """Have one turn."""
        async with self.turns.turn(client):
            self.had.append(client)
            await self.go.wait()

    async def come(self, *clients: str) -> list[asyncio.Task[None]]:
        """Ask for turns, in this order, and return once all wait."""
        tasks = [asyncio.create_task(self.ask(client)) for client in clients]
        await asyncio.sleep(0)
        return tasks


async def test_clients_have_turns_in_a_circle() -> None:
    """One that asked five times first does not keep two others behind all five."""
    crowd = Crowd(10)
    tasks = await crowd.come(*"aaaaabcb")
    crowd.go.set()
    await asyncio.gather(*tasks)
    assert "".join(crowd.had) == "aabcabaa"


async def test_a_newcomer_takes_the_place_of_the_last_of_the_largest_crowd() -> None:
    """The queue is bounded, and the client that fills it pays for it."""
    crowd = Crowd(5)
    tasks = await crowd.come(*"aaaabcbb")
    crowd.go.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in ended] == [*[type(None)] * 3, BusyError, *[type(None)] * 2, BusyError, BusyError]
    assert sorted(crowd.had) == list("aaabc")


async def test_whoever_leaves_takes_no_turn_along() -> None:
    """A client may go while it waits, or at the moment in which its turn comes."""
    crowd = Crowd(10)
    first, second, third, fourth = await crowd.come(*"abcd")
    third.cancel()
    await asyncio.sleep(0)
    crowd.go.set()
    await asyncio.sleep(0)
    second.cancel()
    for task in (first, second, third, fourth):
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 60)
    assert crowd.had[0] == "a"
    assert crowd.had[-1] == "d"
    assert "c" not in crowd.had
    assert not crowd.turns._waiting
    assert not crowd.turns._is_taken


@pytest.mark.parametrize(
    ("host", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("a name", "another", False),
    ],
)
def test_a_host_of_ipv6_counts_once(host: str, other: str, *, is_same: bool) -> None:
    """It has as many addresses as it likes; one of IPv4 on a socket for both has its own."""
    assert (network_of(host) == network_of(other)) is is_same
