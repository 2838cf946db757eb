"""A Prometheus of our own on 127.0.0.1: its configuration rendered for this host, started, reused, stopped."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Self

import requests
import yaml

from workload.alertmanager_access import PASSWORD, USER, folder_of
from workload.engine.listener import find_listener
from workload.errors import StorageError, UsageError
from workload.limits import LimitedAdapter
from workload.paths import asset
from workload.process import ChildProcess, await_ready
from workload.prometheus import PrometheusClient, PrometheusError
from workload.prometheus_reload import reload_by_signal
from workload.targets import TargetFiles

if TYPE_CHECKING:
    from pathlib import Path

    from workload.prometheus_binary import PrometheusBinary

HOST = "127.0.0.1"
READY_TIMEOUT_SECONDS = 60.0
"""A start replays the write-ahead log: seconds after an hour-long run, far less after a short one."""


def render_config(
    template: Path,
    *,
    targets: Path,
    port: int,
    sample_interval_ms: int,
    alertmanager: str | None = None,
    password_file: Path | None = None,
) -> str:
    """Return `template` for this host: absolute paths of rules and targets, our own port, the interval of vllm-fast.

    Args:
        template: the shipped `prometheus.yml`; its rule files lie beside it.
        targets: the folder of the `file_sd` files.
        port: where Prometheus itself listens.
        sample_interval_ms: the interval and time-out of vllm-fast.
        alertmanager: the "host:port" that alerts go to, or None: they are evaluated and stored, and go nowhere.
        password_file: what Alertmanager asks for, if it does; see `workload.alertmanager_access`.
    """
    config: dict[str, Any] = yaml.safe_load(template.read_text())
    config["rule_files"] = [str(template.parent / pattern) for pattern in config["rule_files"]]
    if alertmanager:
        told: dict[str, Any] = {"static_configs": [{"targets": [alertmanager]}]}
        if password_file:
            told["basic_auth"] = {"username": USER, "password_file": str(password_file)}
        config["alerting"] = {"alertmanagers": [told]}
    else:
        del config["alerting"]
    for job in config["scrape_configs"]:
        for discovery in job.get("file_sd_configs", []):
            discovery["files"] = [str(targets / file.removeprefix("targets/")) for file in discovery["files"]]
        if job["job_name"] == "vllm-fast":
            job["scrape_interval"] = job["scrape_timeout"] = f"{sample_interval_ms}ms"
        if job["job_name"] == "prometheus":
            job["static_configs"] = [{"targets": [f"{HOST}:{port}"]}]
    return yaml.safe_dump(config, sort_keys=False, width=1000)


def targets_folder(cache: Path, port: int) -> Path:
    """Return where the Prometheus of ours on `port` reads its targets from."""
    return cache / f"prometheus-{port}" / "targets"


def loopback_session() -> requests.Session:
    """Return an HTTP session that asks our own servers directly, whatever proxy the environment names.

    Its answers are limited in size and time; see `workload.limits`.
    """
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", LimitedAdapter())
    return session


class LocalPrometheus:
    """Prometheus under `cache/prometheus-PORT`: configuration, targets, data and log. A context manager."""

    def __init__(
        self,
        binary: PrometheusBinary,
        cache: Path,
        session: requests.Session,
        *,
        port: int = 9090,
        sample_interval_ms: int = 100,
        retention: str = "30d",
        alertmanager: str | None = None,
    ) -> None:
        self.url = f"http://{HOST}:{port}"
        self.client = PrometheusClient(self.url, session)
        state = cache / f"prometheus-{port}"
        self.targets = TargetFiles(targets_folder(cache, port))
        self._config = state / "prometheus.yml"
        self._log = state / "prometheus.log"
        self._port = port
        self._sample_interval_ms = sample_interval_ms
        self._alertmanager = alertmanager
        self._password_file = folder_of(cache, alertmanager) / PASSWORD if alertmanager else None
        self._argv = (
            str(binary.prometheus),
            f"--config.file={self._config}",
            f"--web.listen-address={HOST}:{port}",
            # No page of another origin may read what is measured; the default lets every one.
            "--web.cors.origin=^$",
            f"--storage.tsdb.path={state / 'data'}",
            f"--storage.tsdb.retention.time={retention}",
            # What Alertmanager did not get is sent again at once: its default, a minute, is too long for steering.
            "--rules.alert.resend-delay=1s",
        )
        self._child: ChildProcess | None = None

    def start(self) -> bool:
        """Return True once a Prometheus started here is ready, False when one of ours was running and is now reused.

        A running one is ours when it was started with our configuration file; it gets the new configuration, and
        `stop` leaves it. A fresh start begins without targets, so nothing is scraped under an earlier arm's name.

        Raises:
            UsageError: something else has the port.
            DependencyDownError: Prometheus stopped or was not ready in time; the end of its log is in the message.
            StorageError: the configuration or the targets cannot be written.
        """
        if self._port_taken():
            self._require_ours()
            self._write_config()
            self._reload()
            return False
        self._write_config()
        self.targets.clear()
        child = ChildProcess(self._argv, self._log)
        remedy = "Pick another port with --prometheus-port, or another HOP2RAG_CACHE if its data are at fault."
        await_ready(child, self.client.ready, READY_TIMEOUT_SECONDS, "Prometheus", self.url, remedy)
        self._child = child
        return True

    def stop(self) -> None:
        """Stop the Prometheus that `start` started, if it did; its data stay for the next start."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _port_taken(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((HOST, self._port)) == 0

    def _require_ours(self) -> None:
        try:
            used = self.client.flags().get("config.file")
        except PrometheusError as error:
            raise UsageError(
                f"Address {HOST}:{self._port} is in use, not by Prometheus.", "Pick another with --prometheus-port."
            ) from error
        if used != str(self._config):
            raise UsageError(
                f"A Prometheus of someone else runs on {self.url} (its configuration is {used}).",
                "Stop it, or pick another port with --prometheus-port.",
            )

    def _reload(self) -> None:
        listener = find_listener(self._port)
        if listener is None or listener.pid is None:
            raise UsageError(f"The Prometheus on {self.url} is another user's.", "Pick another with --prometheus-port.")
        reload_by_signal(listener.pid, self.client)

    def _write_config(self) -> None:
        text = render_config(
            asset("prometheus/prometheus.yml"),
            targets=self.targets.folder,
            port=self._port,
            sample_interval_ms=self._sample_interval_ms,
            alertmanager=self._alertmanager,
            password_file=self._password_file if self._password_file and self._password_file.exists() else None,
        )
        try:
            self._config.parent.mkdir(parents=True, exist_ok=True)
            self._config.write_text(text)
        except OSError as error:
            raise StorageError(f"Cannot write {self._config}: {error.strerror}.", "Set HOP2RAG_CACHE.") from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
