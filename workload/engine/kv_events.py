"""Makes an engine of ours publish its KV cache events, to its own user or on the loopback."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from workload.engine.profile import parse_version, server_flags
from workload.errors import StorageError, UsageError
from workload.files.atomic_file import make_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FLAG = "--kv-events-config"
RANKS = "--data-parallel-size"
EVENTS_SINCE = (0, 24, 0)
"""From here on events are maps; until sessions came, only the token ids connect an event to its call."""
SESSIONS_SINCE = (0, 30, 0)
"""From here on an event names the session of its call, and a call can ask for a report of what it reuses."""
PORTS_APART = 10_000
HIGHEST_PORT = 65_535
MOST_PATH_BYTES = 100
"""A socket's path has at most 107 bytes."""


def events_flags(version: str, port: int, folder: Path | None = None) -> tuple[str, ...]:
    """Return the flags with which an engine on this port publishes its events; none for a release before 0.24.

    It publishes on sockets in `folder`, which must be its user's alone. Without a folder it publishes on the loopback,
    on ports 10,000 and 20,000 further, where every user of this host can read the prompts.
    """
    if not has_events(version):
        return ()
    endpoint, replay = _endpoints(port) if folder is None else (_socket(folder, f"{port}.{n}") for n in ("new", "old"))
    config = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": endpoint, "replay_endpoint": replay}
    return FLAG, json.dumps(config, separators=(",", ":"))


def socket_folder(cache: Path) -> Path | None:
    """Return the folder of the sockets, made for its owner only; None if a socket's path there would be too long.

    Raises:
        StorageError: it cannot be made.
    """
    folder = cache / "kv-events"
    if len(os.fsencode(folder / f"{HIGHEST_PORT}.new")) > MOST_PATH_BYTES:
        return None
    try:
        make_folder(folder)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}.", "Free it, or set HOP2RAG_CACHE.") from error
    return folder


def _socket(folder: Path, name: str) -> str:
    return f"ipc://{folder / name}"


def _endpoints(port: int) -> tuple[str, str]:
    # vLLM binds an address with `::`, and this one is the IPv4 loopback; to `tcp://127.0.0.1:PORT` it would connect.
    step = PORTS_APART if port + 2 * PORTS_APART <= HIGHEST_PORT else -PORTS_APART
    return f"tcp://[::ffff:127.0.0.1]:{port + step}", f"tcp://127.0.0.1:{port + 2 * step}"


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
