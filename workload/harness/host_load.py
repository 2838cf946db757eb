"""The CPU of the host during a window: how much was in use, and how much by programs that are not part of the run."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

import psutil

from workload.services.process import process_tree

DIGITS = 3


@dataclass(frozen=True)
class HostClock:
    """CPU seconds since the host started: in all, in use, and by this run."""

    whole: float
    used: float
    own: float


def host_clock(engine_pid: int | None) -> HostClock:
    """Return the clock now; the run's processes are this one, its children, and the engine with its children."""
    times = psutil.cpu_times()._asdict()
    # the kernel counts the time of guests in that of users
    whole = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    pids = {*(process_tree(os.getpid()) or ()), *(process_tree(engine_pid) or ())}
    return HostClock(whole, whole - times["idle"] - times.get("iowait", 0.0), sum(map(_cpu_seconds, pids)))


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process, those of its ended children included; 0 once it has ended."""
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def host_load(start: HostClock, end: HostClock, *, knows_engine: bool) -> dict[str, float | None]:
    """Return the shares of the host's CPU between two instants, for a window's accounting.

    `host_others` is None if an engine of unknown process may run on this host: it is not another program.
    """
    whole = end.whole - start.whole
    if whole <= 0:
        return {"host_busy": None, "host_others": None}
    used = end.used - start.used
    others = max(0.0, used - (end.own - start.own)) / whole
    return {"host_busy": round(used / whole, DIGITS), "host_others": round(others, DIGITS) if knows_engine else None}
