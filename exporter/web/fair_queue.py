"""One at a time, by turns over who asks: whoever asks often waits for itself, and not before others."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NETWORK_BYTES = 8  # of IPv6, whose hosts have a whole network each


class BusyError(Exception):
    """As many wait as may."""


class Turns:
    """Gives turns, round robin over the clients that wait, to each client's requests in the order in which they came.

    Beyond `most` that wait or have their turn, a newcomer takes the place of the last request of the client with the
    most that wait, or is refused where it has as many itself.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._is_taken = False

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the end of the block.

        Raises:
            BusyError: as many wait as may, or a client that asks less took the place.
        """
        if self._is_taken:
            await self._wait(client)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, client: str) -> None:
        self._make_room(client)
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._pass_on()  # the turn came just as this one left
            raise
        finally:
            self._leave(client, place)

    def _make_room(self, client: str) -> None:
        if self._is_taken + sum(map(len, self._waiting.values())) < self._most:
            return
        crowd = max(self._waiting, key=lambda each: len(self._waiting[each]), default=client)
        if len(self._waiting.get(crowd, ())) <= len(self._waiting.get(client, ())) + 1:
            raise BusyError
        last = self._waiting[crowd].pop()
        if not last.done():
            last.set_exception(BusyError())

    def _leave(self, client: str, place: asyncio.Future[None]) -> None:
        if client in self._waiting:
            with suppress(ValueError):
                self._waiting[client].remove(place)
            if not self._waiting[client]:
                del self._waiting[client]

    def _pass_on(self) -> None:
        self._is_taken = False
        while self._waiting and not self._is_taken:
            client, places = self._waiting.popitem(last=False)
            place = places.popleft()
            if places:
                self._waiting[client] = places  # behind all others
            if not place.done():
                self._is_taken = True
                place.set_result(None)


def network_of(host: str) -> str:
    """Return whom a request counts for: an address of IPv4, or a network (/64) of IPv6, all of which one host has."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address.packed[:NETWORK_BYTES].hex())
    return str(address)
