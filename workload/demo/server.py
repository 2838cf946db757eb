"""Runs a Prometheus that scrapes nothing and serves recordings."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from workload.demo.recording import SERIES, Recording, unpack
from workload.errors import StorageError, UsageError
from workload.files.atomic_file import make_folder
from workload.promql.vllm_metrics import KV_USAGE
from workload.services.child_environment import child_environment
from workload.services.process import HOST, ChildProcess, await_ready
from workload.services.prometheus import PrometheusClient
from workload.services.prometheus_server import READY_TIMEOUT_SECONDS, loopback_session
from workload.services.server_port import ServerPort

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workload.services.prometheus_binary import PrometheusBinary

IMPORT_TIMEOUT_SECONDS = 120.0


@contextmanager
def serve(
    recordings: Sequence[Recording], binary: PrometheusBinary, folder: Path, port: int
) -> Iterator[PrometheusClient]:
    """Load the series of recordings with their original timestamps, and serve them while the block lasts.

    `folder` is for configuration, log and data; the data of an earlier demo are replaced.

    Raises:
        UsageError: the port is in use, or a recording is damaged.
        DependencyDownError: Prometheus did not start.
        StorageError: the folder cannot be written.
    """
    place = ServerPort(folder.parent, "Prometheus", port)
    place.take_alone()
    with ExitStack() as stack:
        stack.callback(place.release)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                raise UsageError(f"Address {HOST}:{port} is in use.", "Pick another with --prometheus-port.")
        argv = _prepared(recordings, binary, folder, port)
        client = PrometheusClient(f"http://{HOST}:{port}", loopback_session())
        child = stack.enter_context(ChildProcess(argv, folder / "prometheus.log"))
        place.note(child)
        await_ready(child, client.ready, READY_TIMEOUT_SECONDS, "Prometheus", f"{HOST}:{port}", remedy="See its log.")
        yield client


def _prepared(recordings: Sequence[Recording], binary: PrometheusBinary, folder: Path, port: int) -> tuple[str, ...]:
    """Write the configuration and the data, and return the command line."""
    data, config = folder / "data", folder / "prometheus.yml"
    try:
        shutil.rmtree(data, ignore_errors=True)
        make_folder(data)
        config.write_text("scrape_configs: []\n")
        for recording in recordings:
            _load(recording, binary.promtool, data)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}.", "Free some space, or set HOP2RAG_CACHE.") from error
    return (
        str(binary.prometheus),
        f"--config.file={config}",
        f"--web.listen-address={HOST}:{port}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        # A recording has no staleness markers, so an ended series would last five minutes more. Rules record every 5 s.
        "--query.lookback-delta=15s",
    )


def _load(recording: Recording, promtool: Path, data: Path) -> None:
    with tempfile.TemporaryDirectory(dir=data.parent) as name:
        series = Path(name) / "series.om"
        unpack(recording.folder / SERIES, series)
        argv: list[str | Path] = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", series, data]
        try:
            done = subprocess.run(
                argv, env=child_environment(), capture_output=True, timeout=IMPORT_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise UsageError(
                f"{recording.folder / SERIES} was not loaded within {IMPORT_TIMEOUT_SECONDS:.0f} s.",
                "Its samples may be too far apart in time: record it again.",
            ) from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:500]
        raise UsageError(f"{recording.folder / SERIES} cannot be loaded: {said}.", "Unpack it again.")


def links(recording: Recording, url: str) -> str:
    """Return links to a recording's series: a graph in Prometheus, and the time range for a Grafana dashboard."""
    end = datetime.fromtimestamp(recording.end, UTC)
    graph = {
        "g0.expr": KV_USAGE.scoped({}, 1.0),
        "g0.tab": 0,
        "g0.range_input": f"{round(recording.end - recording.start)}s",
        "g0.end_input": f"{end:%Y-%m-%d %H:%M:%S}",
    }
    dashboards = f"from={round(recording.start * 1000)}&to={round(recording.end * 1000)}"
    return f"  {url}/graph?{urlencode(graph)}\n  Grafana: add {dashboards} to a dashboard's address"
