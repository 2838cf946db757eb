"""`hop2rag down`: stops what `hop2rag up` started, and only that."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil

from workload.errors import DependencyDownError, UsageError
from workload.harness.stay_up_state import forget, read_standing
from workload.paths import cache_dir
from workload.services.locks import FileLock, engine_lock
from workload.services.process import HOST, left_of, stop_all
from workload.services.prometheus_server import targets_folder

if TYPE_CHECKING:
    from pathlib import Path

    from workload.harness.stay_up_state import Standing
    from workload.services.locks import Owner

STOP_SECONDS = 90.0


def bring_down(cache: Path | None = None) -> str:
    """Ask a running `up` to stop, wait until it has, stop what it left, and say what happened.

    What an `up` that was killed has left is stopped as well.

    Raises:
        UsageError: a run uses what would be stopped; the message names it.
        DependencyDownError: something did not stop; the message names it.
    """
    cache = cache or cache_dir()
    standing = read_standing(cache)
    if standing is None or not (standing.lives or standing.left()):
        return "Nothing is up."
    if standing.lives:
        if owner := user_of(standing, cache):
            raise UsageError(f"{owner} uses what is up.", "Wait for its end or stop it first.")
        os.kill(standing.pid, signal.SIGTERM)
        try:
            psutil.Process(standing.pid).wait(STOP_SECONDS)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:
            raise DependencyDownError(
                f"hop2rag up (process {standing.pid}) did not stop within {STOP_SECONDS:.0f} s.",
                f"Look at it: ps {standing.pid}",
            ) from None
    stopped = stop_left(standing)
    forget(cache)
    return "Stopped the engine and what watched it." if not stopped else f"Stopped what was left: {', '.join(stopped)}."


def user_of(standing: Standing, cache: Path) -> Owner | None:
    """Return who uses the engine or Prometheus of an `up`; None if nobody does."""
    engine = engine_lock(cache, f"{HOST}:{standing.engine_port}")
    prometheus = FileLock(targets_folder(cache, standing.prometheus_port))
    owners = (lock.owner() for lock in (engine, prometheus))
    return next((owner for owner in owners if owner and owner.pid != standing.pid), None)


def stop_left(standing: Standing) -> list[str]:
    """Stop the servers of an `up` that has ended, and return their names.

    Raises:
        DependencyDownError: one did not end; the message names it.
    """
    left = standing.left()
    stop_all([process for child in left.values() for process in left_of(child)])
    if stay := {name: pid for name, (pid, _) in standing.left().items()}:
        named = ", ".join(f"{name} (process {pid})" for name, pid in stay.items())
        raise DependencyDownError(f"Not stopped: {named}.", f"Look at it: ps {' '.join(map(str, stay.values()))}")
    return list(left)
