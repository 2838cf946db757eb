"""Builds the exporter from its configuration."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Info
from prometheus_client import ProcessCollector as OwnProcessCollector

from exporter.collector import Collector, Collectors
from exporter.errors import MissingPartError
from exporter.gpu.devices import Gpus
from exporter.gpu.families import GpuCollector
from exporter.gpu.latest import expose_memory
from exporter.gpu.nvml import NvmlReader
from exporter.gpu.rawlog import RawLog, RawLogMetrics
from exporter.gpu.replay import ReplayReader
from exporter.gpu.sampler import SAMPLE_INTERVAL_SECONDS, GpuSampler, SamplerMetrics, tiers_of
from exporter.host.filesystem import FilesystemCollector
from exporter.host.processes import HostCollector, ProcessCollector, Target
from exporter.timeline import WINDOW_MS
from exporter.web.config import WebConfig, read_web_config
from exporter.web.connections import Limits
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.gpu.readings import GpuDevice, GpuReader

_LOG = logging.getLogger("exporter.service")
DISTRIBUTION = "hop2rag-observatory"
OPEN_SECONDS = 10.0  # nvmlInit takes a second or two on a host with many GPUs


def own_version() -> str:
    """Return the version of the installed distribution, or "unknown" when run from a bare copy."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration, from the flags; see `hop2rag-exporter --help`."""

    host: str = "127.0.0.1"
    port: int = 9400
    web_config_file: Path | None = None
    max_connections: int = 64
    gpu: bool = True
    host_totals: bool = True
    pcie: bool = False
    gpu_processes: bool = False
    targets: Mapping[str, Target] | None = None
    volumes: Mapping[str, Path] | None = None
    sample_interval_seconds: float = SAMPLE_INTERVAL_SECONDS
    replay_file: Path | None = None
    require_gpu: bool = False
    timeline_window_ms: int = WINDOW_MS
    raw_log_directory: Path | None = None


class Exporter:
    """One exporter: samplers, collectors, raw log and server.

    Args:
        reader: a GPU backend that replaces the configured one.

    Raises:
        UsageError: the replay file, the web configuration or a TLS file cannot be used.
        StorageError: the raw log's directory cannot be written.
    """

    def __init__(self, config: Config, reader: GpuReader | None = None) -> None:
        self._config = config
        self.registry = CollectorRegistry()
        Info("hop2rag_exporter_build", "Version of the exporter.", registry=self.registry).info(
            {"version": own_version()}
        )
        OwnProcessCollector(registry=self.registry)
        self._metrics = SamplerMetrics(self.registry, config.sample_interval_seconds)
        self.gpus = Gpus(reader or self._reader(), self._make_sampler)
        self.registry.register(Collectors(self._collectors()))
        self._raw_log = (
            RawLog(config.raw_log_directory, lambda: self.gpus.records, RawLogMetrics(self.registry))
            if config.raw_log_directory and config.gpu
            else None
        )
        web_file = config.web_config_file
        web = read_web_config(web_file) if web_file else WebConfig()
        tls = web.tls_server_config
        self._server = MetricsServer(
            self.registry,
            timeline=self._timeline if config.gpu else None,
            host=config.host,
            port=config.port,
            title="Hop2Rag exporter" + (" (replaying a recording)" if config.replay_file else ""),
            ready=lambda: self.gpus.is_settled or not config.gpu,
            limits=Limits(connections=config.max_connections),
            tls=tls.context(web_file.parent) if tls and web_file else None,
            users=web.basic_auth_users,
        )

    def start(self) -> str:
        """Start sampling and serving; return "host:port".

        Raises:
            MissingPartError: a GPU is required, but none answers.
            UsageError: the address cannot be used.
        """
        address = self._server.start()
        if self._config.gpu:
            self.gpus.start(patience_seconds=OPEN_SECONDS if self._config.require_gpu else 0.0)
            if self._config.require_gpu and self.gpus.failure:
                raise MissingPartError(
                    f"No GPU can be read: {self.gpus.failure}.",
                    "Install the NVIDIA driver or omit --require-gpu.",
                )
        if self._raw_log:
            self._raw_log.start()
        _LOG.info("Serving %s on %s.", "a recording" if self._config.replay_file else "metrics", address)
        return address

    def stop(self) -> None:
        """Stop serving and sampling, and write the rest of the raw log."""
        self._server.close()
        if self._config.gpu:
            self.gpus.stop()
        if self._raw_log:
            self._raw_log.stop()

    def _reader(self) -> GpuReader:
        return ReplayReader(self._config.replay_file) if self._config.replay_file else NvmlReader()

    def _make_sampler(self, device: GpuDevice) -> GpuSampler:
        tiers = tiers_of(device, pcie=self._config.pcie, processes=self._config.gpu_processes)
        return GpuSampler(device, tiers, self._metrics, interval_seconds=self._config.sample_interval_seconds)

    def _collectors(self) -> dict[str, Collector]:
        collectors: dict[str, Collector] = {}
        if self._config.gpu:
            collectors["gpu"] = GpuCollector(lambda: self.gpus.records, lambda: self.gpus.is_up)
        if self._config.host_totals:
            collectors["host"] = HostCollector()
        if self._config.targets:
            collectors["processes"] = ProcessCollector(self._config.targets)
        if self._config.volumes:
            collectors["filesystem"] = FilesystemCollector(self._config.volumes)
        return collectors

    def _timeline(self) -> bytes:
        return expose_memory(self.gpus.records, time.time_ns() // 1_000_000, self._config.timeline_window_ms)
