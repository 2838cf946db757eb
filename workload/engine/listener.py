"""Who listens on a port of this host, and with which flags, if it is a vLLM server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from workload.engine.profile import SERVER_MODULE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Listener:
    """A process that listens on a port. Another user's process shows neither its id nor its command line."""

    pid: int | None
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"process {self.pid} ({self.argv[0]})" if self.pid and self.argv else "another user's process"


def find_listener(port: int) -> Listener | None:
    """Return who listens on TCP `port` of this host; None if nobody does."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            try:
                argv = psutil.Process(connection.pid).cmdline() if connection.pid else []
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                return Listener(None, ())
            return Listener(connection.pid, tuple(argv))
    return None


def server_flags(argv: Sequence[str]) -> Mapping[str, str] | None:
    """Return the flags of a vLLM command line, in any order and spelling; None if it starts something else.

    A flag without a value maps to "". `--port=1` and `--port 1` are the same.
    """
    if SERVER_MODULE not in argv:
        return None
    flags: dict[str, str] = {}
    name = ""
    for word in argv[list(argv).index(SERVER_MODULE) + 1 :]:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            flags[name] = value
        else:
            flags[name] = word
    return flags
