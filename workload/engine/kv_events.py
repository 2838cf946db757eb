"""Makes an engine of ours publish its KV cache events, on the loopback only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from workload.engine.profile import parse_version, server_flags
from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLAG = "--kv-events-config"
EVENTS_SINCE = (0, 24, 0)
"""From here on events are maps; until sessions came, only the token ids connect an event to its call."""
SESSIONS_SINCE = (0, 30, 0)
"""From here on an event names the session of its call, and a call can ask for a report of what it reuses."""
PORTS_APART = 10_000
HIGHEST_PORT = 65_535


def events_flags(version: str, port: int) -> tuple[str, ...]:
    """Return the flags with which an engine on this port publishes its events; none for a release before 0.24.

    The endpoints are on ports 10,000 and 20,000 further. vLLM binds an address that contains `::`, and this one is the
    IPv4 loopback; to `tcp://127.0.0.1:PORT` it would connect.
    """
    if not has_events(version):
        return ()
    step = PORTS_APART if port + 2 * PORTS_APART <= HIGHEST_PORT else -PORTS_APART
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://[::ffff:127.0.0.1]:{port + step}",
        "replay_endpoint": f"tcp://127.0.0.1:{port + 2 * step}",
    }
    return FLAG, json.dumps(config, separators=(",", ":"))


def events_config(argv: Sequence[str] | None) -> dict[str, Any]:
    """Return what the command line of an engine says about its events; empty if it is not visible or says nothing."""
    try:
        config = json.loads((server_flags(argv or ()) or {}).get(FLAG, ""))
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def compared_flags(argv: Sequence[str]) -> Mapping[str, str] | None:
    """Return the flags by which an engine is known to run an arm: events change nothing that it computes."""
    flags = server_flags(argv)
    return None if flags is None else {flag: value for flag, value in flags.items() if flag != FLAG}


def has_events(version: str | None) -> bool:
    """Return whether a release publishes events that are read."""
    return _is_since(version, EVENTS_SINCE)


def has_sessions(version: str | None) -> bool:
    """Return whether events of a release name the sessions of calls."""
    return _is_since(version, SESSIONS_SINCE)


def _is_since(version: str | None, release: tuple[int, int, int]) -> bool:
    try:
        return parse_version(version or "") >= release
    except UsageError:
        return False
