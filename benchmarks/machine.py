"""The line under every table: on what it was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe(*distributions: str) -> str:
    """Return processor, cores, load, Python and the versions of these distributions."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in distributions)
    return (
        f"{models[0] if models else platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f} before, "
        f"Linux {platform.release()}, Python {platform.python_version()}, {versions}"
    )
