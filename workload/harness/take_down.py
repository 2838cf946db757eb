"""`hop2rag down`: stops what `hop2rag up` started, and only that."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil

from workload.errors import DependencyDownError, UsageError
from workload.harness.stay_up_state import UpState, forget, read_up_state
from workload.paths import cache_dir
from workload.services.locks import FileLock, Owner, engine_lock
from workload.services.process import HOST, stop_groups
from workload.services.prometheus_server import targets_folder

if TYPE_CHECKING:
    from pathlib import Path


STOP_SECONDS = 90.0


def bring_down(cache: Path | None = None) -> str:
    """Ask a running `hop2rag up` to stop, wait for it, stop servers that it left, and return what happened.

    The servers of a `hop2rag up` that was killed are stopped as well.

    Raises:
        UsageError: a run uses one of the servers; the message names it.
        DependencyDownError: a process did not stop; the message names it.
    """
    cache = cache or cache_dir()
    up_state = read_up_state(cache)
    if up_state is None or not (up_state.lives or up_state.left()):
        return "Nothing is up."
    if up_state.lives:
        if owner := user_of(up_state, cache):
            raise UsageError(f"{owner} uses the running servers.", "Wait for its end, or stop it first.")
        os.kill(up_state.pid, signal.SIGTERM)
        try:
            psutil.Process(up_state.pid).wait(STOP_SECONDS)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:
            raise DependencyDownError(
                f"hop2rag up (process {up_state.pid}) did not stop within {STOP_SECONDS:.0f} s.",
                f"Look at it: ps {up_state.pid}",
            ) from None
    stopped = stop_left(up_state)
    forget(cache)
    return (
        "Stopped the engine and the services that watched it."
        if not stopped
        else f"Stopped the servers that were left: {', '.join(stopped)}."
    )


def user_of(up_state: UpState, cache: Path) -> Owner | None:
    """Return the process that uses the engine or Prometheus of a `hop2rag up`; None if there is none."""
    engine = engine_lock(cache, f"{HOST}:{up_state.engine_port}")
    prometheus = FileLock(targets_folder(cache, up_state.prometheus_port))
    owners = (lock.owner() for lock in (engine, prometheus))
    return next((owner for owner in owners if owner and owner.pid != up_state.pid), None)


def stop_left(up_state: UpState) -> list[str]:
    """Stop the servers of a `hop2rag up` that has ended, and return their names.

    Raises:
        DependencyDownError: one did not end; the message names it.
    """
    left = up_state.left()
    stop_groups(left.values())
    if stay := {name: pid for name, (pid, _) in up_state.left().items()}:
        named = ", ".join(f"{name} (process {pid})" for name, pid in stay.items())
        raise DependencyDownError(f"Not stopped: {named}.", f"Look at it: ps {' '.join(map(str, stay.values()))}")
    return list(left)
