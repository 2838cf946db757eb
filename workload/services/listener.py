"""Finds the process that listens on a port of this host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator


REACHED_BY_LOOPBACK = frozenset({"127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"})  # noqa: S104 - names
"""Listening addresses that a connection to 127.0.0.1 can reach."""


@dataclass(frozen=True)
class Listener:
    """A process that listens on a port. Another user's process shows neither its id nor its command line."""

    pid: int | None
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"process {self.pid} ({self.argv[0]})" if self.pid and self.argv else "another user's process"


def find_listener(port: int) -> Listener | None:
    """Return the process that listens on TCP `port` of this host; None if there is none."""
    return next(iter(_listening(port, None)), None)


def listeners(port: int) -> list[Listener]:
    """Return all processes that listen on TCP `port` of 127.0.0.1; with SO_REUSEPORT several can share it."""
    return list(_listening(port, REACHED_BY_LOOPBACK))


def _listening(port: int, addresses: frozenset[str] | None) -> Iterator[Listener]:
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.laddr.port != port:
            continue
        if addresses is not None and connection.laddr.ip not in addresses:
            continue
        try:
            argv = psutil.Process(connection.pid).cmdline() if connection.pid else []
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            yield Listener(None, ())
        else:
            yield Listener(connection.pid, tuple(argv))
