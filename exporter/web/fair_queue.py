"""A queue that serves clients round robin, so that a client with many requests delays only itself."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NETWORK_BYTES = 8  # a host with IPv6 has a whole /64 network


class BusyError(Exception):
    """The queue is full."""


class Turns:
    """Runs one request at a time: round robin over the waiting clients, in order of arrival within each client.

    Once `most` requests wait or run, a new request replaces the last one of the client with the most waiting requests,
    or is refused if its own client has as many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._is_taken = False

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn, and keep it until the end of the block.

        Raises:
            BusyError: the queue is full, or a client with fewer requests took the place.
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
                self._pass_on()  # the turn came just as this request was cancelled
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
                self._waiting[client] = places  # after all other clients
            if not place.done():
                self._is_taken = True
                place.set_result(None)


def network_of(host: str) -> str:
    """Return the client that a request counts for: an IPv4 address, or an IPv6 network (/64), which one host owns."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address.packed[:NETWORK_BYTES].hex())
    return str(address)
