"""Runs the exporter as a process for the length of a block, or uses one that already runs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests

from workload.errors import StorageError
from workload.files.atomic_file import make_folder
from workload.paths import cache_dir
from workload.services.child_environment import PYTHON, child_environment
from workload.services.process import ChildProcess, await_ready, free_port
from workload.services.prometheus_server import loopback_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_TIMEOUT_SECONDS = 20.0


@contextmanager
def start_exporter(
    engine_pid: int | None, sample_interval_ms: int, folder: Path, engine_port: int | None = None
) -> Iterator[str]:
    """Run hop2rag-exporter for this process and the engine's; yield its `host:port`; stop it at the end.

    `folder` is for its log and raw samples. Without `engine_pid` it measures this process alone; `engine_port` replaces
    the process id of an engine that may be restarted.

    Raises:
        DependencyDownError: it did not become ready; the message ends with its log.
    """
    address = f"127.0.0.1:{free_port()}"
    engine = ["--collector.processes.engine-pid", str(engine_pid)] if engine_pid else []
    if engine_port:
        engine = ["--collector.processes.engine-port", str(engine_port)]
    argv = [
        *(sys.executable, "-m", "exporter.cli", "--web.listen-address", address),
        *("--nvml.sample-interval", f"{sample_interval_ms}ms", "--raw-log.directory", str(folder / "nvml")),
        *("--collector.processes.agent-pid", str(os.getpid()), *engine),
        *("--collector.filesystem", f"results={folder}", "--collector.filesystem", f"prometheus={cache_dir()}"),
    ]
    env = child_environment(PYTHON)
    with ChildProcess(argv, folder / "exporter.log", env) as child, loopback_session() as session:

        def is_ready() -> bool:
            try:
                return session.get(f"http://{address}/-/ready", timeout=2).ok
            except requests.RequestException:
                return False  # not listening yet

        await_ready(child, is_ready, READY_TIMEOUT_SECONDS, "The exporter", address, remedy="See its log.")
        yield address


@contextmanager
def use_exporter(address: str, samples: Path | None, folder: Path) -> Iterator[str]:
    """Use an exporter that already runs; at the end copy its raw samples of this block.

    `samples` is the folder of its raw log on this host, None if it is not visible; the copy is laid out as by
    `start_exporter`.

    Raises:
        StorageError: the samples cannot be copied.
    """
    began = time.time()
    try:
        yield address
    finally:
        if samples:
            _take_samples(samples, folder / "nvml", began)


def _take_samples(samples: Path, folder: Path, since: float) -> None:
    try:
        for path in samples.glob("nvml_*.csv"):
            if path.stat().st_mtime >= since:
                make_folder(folder)
                shutil.copy2(path, folder / path.name)
    except OSError as error:
        raise StorageError(f"Cannot copy GPU samples from {samples}: {error.strerror}.", "Free some space.") from error
