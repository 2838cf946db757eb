"""On what a run is measured, as its manifest tells."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil


def host_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Return the processor, the cores that this process may use, memory, kernel, Python, and the load of a minute.

    `load_before` is the number of runnable threads before the run: on a busy host times are those of others too.
    """
    text = cpuinfo.read_text(encoding="ascii", errors="replace") if cpuinfo.exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }
