"""HTTP connections with a bound on the time each request may take."""

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
    """Lets each kind of error through once in ten minutes: what a client can cause, it can cause without end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is of a kind that was not said lately."""
        error = record.exc_info[1] if record.exc_info else None
        kind, now = f"{record.msg} {type(error).__name__}", self._clock()
        if now - self._said.get(kind, float("-inf")) < SAID_SECONDS:
            return False
        self._said[kind] = now
        return True


# Malformed requests get their 400 and no log line.
_LOG = logging.getLogger("exporter.web.connections")
_LOG.setLevel(logging.ERROR)
_LOG.addFilter(Seldom())


@dataclass(frozen=True)
class Limits:
    """What one server spends on its clients.

    `handshake_seconds` is the time for TLS to begin; `request_seconds` spans a request's first byte (for a new
    connection: the connect, or the end of its handshake) to the last byte handed to the kernel; `keep_alive_seconds` is
    the idle time between requests, longer than any usual scrape interval.
    """

    connections: int = 64
    handshake_seconds: float = 3.0
    request_seconds: float = 10.0
    keep_alive_seconds: int = 75
    header_bytes: int = 16 * 1024


class BoundedProtocol(H11Protocol):
    """One connection, with a bound on the time that each of its requests may take. `Door` bounds their number.

    uvicorn does not promise that its protocol can be derived from; pyproject.toml holds it at the release that this was
    written for.

    Args:
        limits: bounds on time.
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
        self.is_connected = False  # it has no transport before its handshake is done
        self._limits = limits
        self._lost = lost
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first request's time."""
        super().connection_made(transport)
        self.is_connected = True
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
        """End the request's time, and start the next one's where its first byte has come already.

        A closing connection keeps its deadline until the kernel has taken the answer.
        """
        self.waiting_since = self.loop.time()
        if not self.transport.is_closing():
            self._disarm()
        super().on_response_complete()
        has_more = not self.is_waiting or bool(self.conn.trailing_data[0])
        if has_more and self._deadline is None:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and give up the place."""
        self._disarm()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._lost(self)

    def timeout_keep_alive_handler(self) -> None:
        """Drop an idle connection at once: one that never read its answer would otherwise hold it for ever."""
        self.transport.abort()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self._limits.request_seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
