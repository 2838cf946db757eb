"""HTTP connections with a bound on their number and on the time each request may take."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 22\r\n\r\nToo many connections.\n"
)
# A client can send malformed requests as fast as it likes: each gets its 400, none gets a log line.
_SILENT = logging.getLogger("exporter.connections")
_SILENT.setLevel(logging.ERROR)


@dataclass(frozen=True)
class Limits:
    """What one server spends on its clients.

    `request_seconds` spans a request's first byte (for a new connection: the connect) to the last byte handed to the
    kernel; `keep_alive_seconds` is the idle time between requests, longer than any usual scrape interval.
    """

    connections: int = 64
    request_seconds: float = 10.0
    keep_alive_seconds: int = 75
    header_bytes: int = 16 * 1024


class BoundedProtocol(H11Protocol):
    """One connection of at most `limits.connections`.

    Beyond that number the connection that has waited longest without a request in progress is dropped, so idle and
    slow-header clients cannot lock out a scrape; with a request in progress on all of them the newcomer gets a 503.
    """

    def __init__(self, limits: Limits, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={})
        self.logger = _SILENT
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._waiting_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit the connection, at the cost of an idle one if need be, or refuse it."""
        others = cast("Iterable[BoundedProtocol]", self.connections)
        if len(self.connections) >= self._limits.connections:
            waiting = [each for each in others if each.is_waiting]
            if not waiting:
                self.transport = transport
                transport.write(_REFUSAL)
                transport.close()
                return
            idlest = min(waiting, key=lambda each: each._waiting_since)  # noqa: SLF001 - the same class
            self.connections.discard(idlest)
            idlest.transport.abort()
        super().connection_made(transport)
        self._arm()

    @property
    def is_waiting(self) -> bool:
        """True while no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Start the request's time at its first byte."""
        if self._deadline is None:
            self._arm()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """End the request's time; a closing connection keeps its deadline until the kernel has taken the answer."""
        self._waiting_since = self.loop.time()
        if not self.transport.is_closing():
            self._disarm()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers; a connection that was refused has nothing else to clean up."""
        self._disarm()
        if self.flow is not None:
            super().connection_lost(exc)
            self._unset_keepalive_if_required()

    def timeout_keep_alive_handler(self) -> None:
        """Drop an idle connection at once: one that never read its answer would otherwise hold it for ever."""
        self.transport.abort()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self._limits.request_seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
