"""Ports for what is started beside a run."""

from __future__ import annotations

import random
import socket
from itertools import cycle

HOST = "127.0.0.1"
# Below what Linux gives outgoing connections (net.ipv4.ip_local_port_range, from 32768 on): a port chosen there may be
# some connection's own before its server listens on it, or while that is being restarted.
PORTS = range(20_000, 32_768)
# In an order of this process, so that two choices of it are never the same; not of the generator that tests seed.
_ORDER = cycle(random.SystemRandom().sample(PORTS, len(PORTS)))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now, and that no outgoing connection takes meanwhile."""
    return next(port for port in _ORDER if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: ends of old connections are no use
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
        return True
