"""Serves the metrics of an app without ever stopping it, and registers the address for Prometheus.

A port that is taken becomes the next free one, an address that cannot be used leaves the app unserved: both are
warnings. Each process that serves has an entry in a folder that Prometheus reads (`file_sd_configs`), so several worker
processes of an app are the targets of one job.
"""

from __future__ import annotations

import atexit
import errno
import json
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.registry import Collector

_LOG = logging.getLogger("exporter.langgraph")
FURTHER_PORTS = 100
_SERVING: dict[tuple[str, int], Serving] = {}  # of this process, by the requested address


def targets_folder() -> Path:
    """Return the folder of the entries: HOP2RAG_TARGETS, else `targets` in HOP2RAG_CACHE or ~/.cache/hop2rag."""
    if folder := os.environ.get("HOP2RAG_TARGETS"):
        return Path(folder)
    cache = os.environ.get("HOP2RAG_CACHE")
    return (Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hop2rag") / "targets"


class Serving:
    """Serves a registry and a timeline from a thread of this process, and of each process that is forked from it.

    Args:
        registry: the content of /metrics.
        timeline: returns the content of /metrics/timeline.
        host: the address to listen on.
        port: the port, 0 for a free one.
        has_exemplars: whether the registry's histograms have exemplars.

    Attributes:
        address: "host:port", "" where it is not served.
    """

    def __init__(
        self,
        registry: Collector,
        timeline: Callable[[], bytes],
        host: str,
        port: int,
        *,
        has_exemplars: bool = False,
    ) -> None:
        self.address = ""
        self._has_exemplars = has_exemplars
        self._registry, self._timeline = registry, timeline
        self._host, self._port = host, port
        self._process = 0
        self._server: MetricsServer | None = None
        self._entry: Path | None = None

    def start(self) -> None:
        """Serve, in place of an earlier server of this process at the same address; a failure is a warning."""
        if self._port and (earlier := _SERVING.pop((self._host, self._port), None)):
            earlier.close()
        self._process = os.getpid()
        for port in self._candidates():
            server = MetricsServer(
                self._registry,
                timeline=self._timeline,
                host=self._host,
                port=port,
                flag="serve(port=...)",
                has_exemplars=self._has_exemplars,
            )
            try:
                self.address = server.start()
            except Exception as error:  # noqa: BLE001 - whatever happens to metering, the app goes on
                failure = error
                server.close()
                if getattr(error.__cause__, "errno", None) not in {errno.EADDRINUSE, errno.EACCES}:
                    break
            else:
                self._server = server
                break
        if not self._server:
            _LOG.warning("The app's metrics are not served. %s", failure)
            return
        _SERVING[self._host, self._port] = self
        if self._port and port != self._port:
            _LOG.warning("Port %d is taken: the app's metrics are at http://%s/metrics.", self._port, self.address)
        self._write_entry()

    def start_again(self) -> None:
        """Serve in a process that was forked from the one that served; elsewhere this does nothing."""
        if self._process and self._process != os.getpid():
            self.start()

    def leave_to_parent(self) -> None:
        """Drop, in a forked process, the server whose threads only the parent has."""
        if self._server:
            self._server.close_listener()
        self._server, self._entry, self.address = None, None, ""
        _SERVING.clear()

    def close(self) -> None:
        """Stop serving."""
        if self._server:
            self._server.close()
        if self._entry:
            with suppress(OSError):
                self._entry.unlink()
        self._server, self._entry, self._process, self.address = None, None, 0, ""
        if _SERVING.get((self._host, self._port)) is self:
            del _SERVING[self._host, self._port]
        atexit.unregister(self.close)

    def _candidates(self) -> list[int]:
        further = range(self._port, min(self._port + FURTHER_PORTS, 65_536)) if self._port else ()
        return [*further, 0]

    def _write_entry(self) -> None:
        folder, host = targets_folder().expanduser(), socket.gethostname()
        entry = folder / f"workload-{host}-{os.getpid()}-{self.address.rpartition(':')[2]}.json"
        draft = entry.with_suffix(".tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_stale(folder, host)
            draft.write_text(json.dumps([{"targets": [self.address]}]))
            draft.replace(entry)
        except OSError as error:
            _LOG.warning("%s has no entry for Prometheus's file_sd_configs: %s", self.address, error)
            return
        self._entry = entry
        atexit.register(self.close)


def _remove_stale(folder: Path, host: str) -> None:
    """Remove the entries of this host's processes that are gone."""
    for entry in folder.glob(f"workload-{host}-*-*.json"):
        process = entry.stem.rpartition("-")[0].rpartition("-")[2]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            entry.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            continue
