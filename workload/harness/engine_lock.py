"""The lock of an engine, and how this process names itself to those that wait for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workload.engine.docker import ENDPOINT as DOCKER_ENDPOINT
from workload.paths import cache_dir
from workload.services.locks import FileLock, Requester, engine_lock
from workload.services.process import HOST

if TYPE_CHECKING:
    from rich.console import Console

    from workload.settings import Places


def engine_of(places: Places) -> FileLock:
    """Return the lock of the engine that the settings name."""
    default = DOCKER_ENDPOINT if places.launcher == "docker" else f"http://{HOST}:{places.engine_port}"
    parts = urlsplit(places.vllm_endpoint or default)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return engine_lock(cache_dir(), f"{parts.hostname}:{port}")


def requester(console: Console, run_id: str | None = None) -> Requester:
    """Return this process as a requester of locks, which prints the owner it waits for."""
    return Requester(run=run_id, say=partial(console.print, markup=False, highlight=False, soft_wrap=True))
