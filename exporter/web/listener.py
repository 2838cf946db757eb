"""Accepts connections: counted from the accept on, TLS handshakes included, also when descriptors run out."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from exporter.web.connections import BoundedProtocol, Limits, Seldom

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


_LOG = logging.getLogger("exporter.web.listener")
_LOG.addFilter(Seldom())
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 22\r\n\r\nToo many connections.\n"
)
PAUSE_SECONDS = 0.1


class Door:
    """Admits at most `limits.connections`.

    Beyond that number the connection that has waited longest without a request in progress is dropped, so clients that
    are idle, or slow with a header or a handshake, cannot lock out a scrape. If every connection has a request in
    progress, a new one gets a 503, or is closed if it would need a TLS handshake first.

    Args:
        tls: the context of TLS handshakes, None for plain HTTP.
        make_protocol: builds the protocol of one connection; its argument is called once the connection is lost.
    """

    def __init__(
        self,
        limits: Limits,
        tls: ssl.SSLContext | None,
        make_protocol: Callable[[Callable[[BoundedProtocol], None]], BoundedProtocol],
    ) -> None:
        self._limits = limits
        self._tls = tls
        self._make_protocol = make_protocol
        self._guests: dict[BoundedProtocol, tuple[socket.socket, asyncio.Task[None]]] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled; `listener` is bound and non-blocking."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:  # closed before it was accepted
                continue
            except OSError as error:  # the process or the host has no descriptor or no memory left
                _LOG.error("No connection can be accepted: %s. Idle ones are dropped to make room.", error.strerror)
                self._make_room()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._let_in(connection)
            await asyncio.sleep(0)  # with more connections queued, accept never waits: let the others run

    def close(self, *, also_connected: bool = False) -> None:
        """Drop the connections that have not finished their handshake, or all connections."""
        for guest, (connection, _) in self._guests.items():
            if not guest.is_connected:
                _hang_up(connection)
            elif also_connected:
                guest.transport.abort()

    def _let_in(self, connection: socket.socket) -> None:
        if len(self._guests) >= self._limits.connections and not self._make_room():
            self._refuse(connection)
            return
        guest = self._make_protocol(self._forget)
        self._guests[guest] = connection, asyncio.create_task(self._greet(guest, connection))

    def _make_room(self) -> bool:
        """Drop the connection that has waited longest; return False if all have a request in progress."""
        waiting = [guest for guest in self._guests if guest.is_waiting]
        if not waiting:
            return False
        idlest = min(waiting, key=lambda guest: guest.waiting_since)
        connection, _ = self._guests.pop(idlest)
        if idlest.is_connected:
            idlest.transport.abort()
        else:
            _hang_up(connection)
        return True

    async def _greet(self, guest: BoundedProtocol, connection: socket.socket) -> None:
        seconds = self._limits.handshake_seconds if self._tls else None
        with suppress(OSError):  # a failed or late handshake; ssl.SSLError is an OSError
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: guest, connection, ssl=self._tls, ssl_handshake_timeout=seconds
            )
        if not guest.is_connected:
            self._forget(guest)

    def _forget(self, guest: BoundedProtocol) -> None:
        self._guests.pop(guest, None)

    def _refuse(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self._tls is None:
                connection.send(REFUSAL)


def _hang_up(connection: socket.socket) -> None:
    """Shut the socket down during its handshake; cancelling the handshake instead would leak the socket."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
