"""HTTP connections with a time limit for each request."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

SAID_SECONDS = 600.0


class Seldom(logging.Filter):
    """Lets each kind of error through once in ten minutes, because a client can cause it without end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether no record of this kind was logged lately."""
        error = record.exc_info[1] if record.exc_info else None
        kind, now = f"{record.msg} {type(error).__name__}", self._clock()
        if now - self._said.get(kind, float("-inf")) < SAID_SECONDS:
            return False
        self._said[kind] = now
        return True


# Malformed requests get a 400, but no log line.
_LOG = logging.getLogger("exporter.web.connections")
_LOG.setLevel(logging.ERROR)
_LOG.addFilter(Seldom())


@dataclass(frozen=True)
class Limits:
    """The limits of a server's connections and requests.

    `handshake_seconds` limits the TLS handshake; `request_seconds` runs from a request's first byte (for a new
    connection: from the connect, or the end of its handshake) to the last byte handed to the kernel;
    `keep_alive_seconds` is the idle time between requests, longer than any usual scrape interval.
    """

    connections: int = 64
    handshake_seconds: float = 3.0
    request_seconds: float = 10.0
    keep_alive_seconds: int = 75
    header_bytes: int = 16 * 1024


class BoundedProtocol(H11Protocol):
    """One connection, with a time limit for each of its requests; `Door` limits the number of connections.

    uvicorn does not promise a stable protocol class; pyproject.toml pins the release that this was written for.

    Args:
        lost: called once the connection is closed.
        config, server_state: as in uvicorn.
    """

    def __init__(
        self,
        limits: Limits,
        lost: Callable[[BoundedProtocol], None],
        config: Config,
        server_state: ServerState,
    ) -> None:
        super().__init__(config, server_state, app_state={})
        self.logger = _LOG
        self.waiting_since = self.loop.time()
        self.is_connected = False  # there is no transport before the handshake is done
        self._limits = limits
        self._lost = lost
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first request."""
        super().connection_made(transport)
        self.is_connected = True
        self._arm()

    @property
    def is_waiting(self) -> bool:
        """True while no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Start the time limit of a request at its first byte."""
        if self._deadline is None:
            self._arm()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Stop the time limit of the request, and start that of the next one if its first byte has arrived.

        A closing connection keeps its time limit until the kernel has taken the response.
        """
        self.waiting_since = self.loop.time()
        if not self.transport.is_closing():
            self._disarm()
        super().on_response_complete()
        has_more = not self.is_waiting or bool(self.conn.trailing_data[0])
        if has_more and self._deadline is None:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer and report the loss."""
        self._disarm()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._lost(self)

    def timeout_keep_alive_handler(self) -> None:
        """Abort an idle connection: a client that never reads its response would otherwise keep it open forever."""
        self.transport.abort()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self._limits.request_seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
