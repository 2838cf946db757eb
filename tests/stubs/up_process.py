"""`hop2rag up` with a stub in vLLM's place, to be looked at and stopped from outside.

Usage: python -m tests.stubs.up_process PYTHON ENGINE-PORT PROMETHEUS-PORT ALERTMANAGER-PORT, with HOP2RAG_CACHE set.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from rich.console import Console

from workload.engine.install import EngineInstallation
from workload.engine.launcher import UP, ProcessLauncher
from workload.errors import Hop2RagError
from workload.harness.stay_up import Ports, stay_up
from workload.paths import cache_dir
from workload.services.locks import Requester


def main(python: str, engine: str, prometheus: str, alertmanager: str) -> int:
    """Keep all up until a signal; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=200)
    installation = EngineInstallation(Path(python), Path("model"), "stub-model", "0.32.0")
    by = Requester(UP, say=console.print)
    launcher = ProcessLauncher(installation, cache_dir() / "logs", console, int(engine), cache=cache_dir(), by=by)
    try:
        ports = Ports(prometheus=int(prometheus), alertmanager=int(alertmanager), webhook=9, grafana=9)
        stay_up("prefix-on", launcher, ports, console)
    except Hop2RagError as error:
        console.print(f"Error: {error}", soft_wrap=True, highlight=False, markup=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
