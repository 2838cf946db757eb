"""Where an engine publishes its KV cache events, as its configuration says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from workload.engine.attach import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.fleet.events import EngineId

BINDS = ("*", "0.0.0.0", "[::]", "::")  # noqa: S104 - an engine that listens there is reached by its own address
MAPPED_LOOPBACK = re.compile(r"\[::ffff:(127\.[\d.]+)\]")


class EventSource(NamedTuple):
    """Where one engine publishes its events.

    Attributes:
        engine: its server and rank.
        endpoint: the ZeroMQ address to connect to.
        replay_endpoint: where missing messages can be asked for; None if nowhere.
        topic: the beginning of the messages' topic.
    """

    engine: EngineId
    endpoint: str
    replay_endpoint: str | None = None
    topic: str = ""


def source_of(engine: EngineId, config: Mapping[str, Any], *, may_be_socket: bool = False) -> EventSource | None:
    """Return where an engine with this configuration of its events publishes them; None if not, or elsewhere.

    A command line may name a socket on this host, a page may not: it comes from a server.
    """
    if not config.get("enable_kv_cache_events") or config.get("publisher") != "zmq":
        return None
    named = (config.get(name) for name in ("endpoint", "replay_endpoint"))
    endpoint, again = (_reachable(engine.server, each, may_be_socket=may_be_socket) for each in named)
    return EventSource(engine, endpoint, again, str(config.get("topic") or "")) if endpoint else None


def _reachable(server: str, endpoint: Any, *, may_be_socket: bool) -> str | None:
    """Return where we connect to what an engine binds; None if that is another host, or unknown."""
    here = str(urlsplit(server).hostname)
    if str(endpoint).startswith("ipc:///"):
        return str(endpoint) if may_be_socket and here in LOOPBACK else None
    host, _, port = str(endpoint or "").removeprefix("tcp://").rpartition(":")
    own = f"[{here}]" if ":" in here else here
    if match := MAPPED_LOOPBACK.fullmatch(host):
        host = match[1]
    is_here = host in {own, *BINDS} or (host in LOOPBACK and here in LOOPBACK)
    return f"tcp://{own if host in BINDS else host}:{port}" if is_here and port.isdigit() else None
