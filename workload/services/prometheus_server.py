"""A Prometheus of our own on 127.0.0.1: its configuration rendered for this host, started, reused, stopped."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import requests
import yaml

from workload.errors import DependencyDownError, StorageError, UsageError
from workload.files.atomic_file import make_folder
from workload.paths import asset
from workload.services.alertmanager_access import PASSWORD, USER, folder_of
from workload.services.limits import LimitedAdapter
from workload.services.listener import find_listener
from workload.services.live_alerts import alerts_of_the_living
from workload.services.locks import THIS_COMMAND, FileLock
from workload.services.process import ChildProcess, await_ready
from workload.services.prometheus import PrometheusClient, PrometheusError
from workload.services.prometheus_reload import reload_by_signal
from workload.services.scrape_registration import wait_until_left, wait_until_stale
from workload.services.server_port import ServerPort
from workload.services.targets import TargetFiles

if TYPE_CHECKING:
    from pathlib import Path

    from workload.services.locks import Requester
    from workload.services.prometheus_binary import PrometheusBinary

RETENTION_SIZE = "10GB"
"""The most that our own Prometheus keeps, the oldest going first: days of an engine, never the whole disk."""

HOST = "127.0.0.1"
ALERTS = "alerts/*.yml"
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
    alerts: Path | None = None,
) -> str:
    """Return `template` for this host: absolute paths of rules and targets, our own port, the interval of vllm-fast.

    Args:
        template: the shipped `prometheus.yml`; its rule files lie beside it.
        targets: the folder of the `file_sd` files.
        port: where Prometheus itself listens.
        sample_interval_ms: the interval and time-out of vllm-fast.
        alertmanager: the "host:port" that alerts go to, or None: they are evaluated and stored, and go nowhere.
        password_file: what Alertmanager asks for, if it does; see `workload.services.alertmanager_access`.
        alerts: a file that stands for those of the template, see `workload.services.live_alerts`.
    """
    config: dict[str, Any] = yaml.safe_load(template.read_text())
    config["rule_files"] = [
        str(alerts if alerts and pattern == ALERTS else template.parent / pattern) for pattern in config["rule_files"]
    ]
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


def alertmanager_in(config: str) -> str | None:
    """Return the "host:port" that a rendered configuration sends its alerts to; None if they go nowhere."""
    alerting = yaml.safe_load(config).get("alerting")
    return str(alerting["alertmanagers"][0]["static_configs"][0]["targets"][0]) if alerting else None


def targets_folder(cache: Path, port: int) -> Path:
    """Return where the Prometheus of ours on `port` reads its targets from."""
    return cache / f"prometheus-{port}" / "targets"


def loopback_session() -> requests.Session:
    """Return an HTTP session that asks our own servers directly, whatever proxy the environment names.

    Its answers are limited in size and time; see `workload.services.limits`.
    """
    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, LimitedAdapter())
    return session


class LocalPrometheus:
    """Prometheus under `cache/prometheus-PORT`: configuration, targets, data and log.

    As a context manager it is ours alone: started, or reused where somebody keeps one of ours, and whoever has its
    targets is waited for. `start` and `stop` alone keep one for others.
    """

    def __init__(
        self,
        binary: PrometheusBinary,
        cache: Path,
        session: requests.Session,
        *,
        port: int = 9090,
        sample_interval_ms: int = 100,
        retention: str = "30d",
        retention_size: str = RETENTION_SIZE,
        alertmanager: str | None = None,
        by: Requester = THIS_COMMAND,
    ) -> None:
        self.url = f"http://{HOST}:{port}"
        self.client = PrometheusClient(self.url, session)
        state = cache / f"prometheus-{port}"
        self.targets = TargetFiles(targets_folder(cache, port))
        self._config, self._alerts = state / "prometheus.yml", state / "alerts.yml"
        self._log = state / "prometheus.log"
        self._port = port
        self._sample_interval_ms = sample_interval_ms
        self._alertmanager = alertmanager
        self._cache = cache
        self._argv = (
            str(binary.prometheus),
            f"--config.file={self._config}",
            f"--web.listen-address={HOST}:{port}",
            # No page of another origin may read what is measured; the default lets every one.
            "--web.cors.origin=^$",
            f"--storage.tsdb.path={state / 'data'}",
            f"--storage.tsdb.retention.time={retention}",
            f"--storage.tsdb.retention.size={retention_size}",
            # What Alertmanager did not get is sent again at once: its default, a minute, is too long for steering.
            "--rules.alert.resend-delay=1s",
        )
        self._child: ChildProcess | None = None
        self._place = ServerPort(cache, "Prometheus", port, by)
        self._used, self._by = FileLock(self.targets.folder, f"Prometheus on port {port}"), by
        self._stack = ExitStack()
        self._before: str | None = None
        self._began = 0.0

    def start(self, *, shares: bool = True) -> bool:
        """Return True once a Prometheus started here is ready, False when one of ours is kept already and now reused.

        One that is reused gets our interval; its alerts go where they went unless we have an Alertmanager of our own;
        `stop` gives it its configuration back and leaves it running. It begins without targets, so nothing is scraped
        under an earlier arm's name.

        Args:
            shares: whether one that somebody else keeps will do.

        Raises:
            UsageError: something else has the port, or somebody else keeps one that will not do.
            DependencyDownError: Prometheus stopped or was not ready in time; the end of its log is in the message.
            StorageError: the configuration or the targets cannot be written.
        """
        if not (self._place.take(READY_TIMEOUT_SECONDS) if shares else self._place.take_alone()):
            self._require_ours()
            self._before = self._config.read_text()
            self._write_config(alertmanager_in(self._before))
            self._reload()
            self._drop_targets()
            return False
        with ExitStack() as unless_ready:
            unless_ready.callback(self._place.release)
            self._require_free()
            self._began = time.time()
            alerts = asset("prometheus/prometheus.yml").parent.glob(ALERTS)
            self._write(self._alerts, alerts_of_the_living(sorted(alerts), self._began))
            self._write_config()
            self.targets.clear()
            child = ChildProcess(self._argv, self._log)
            self._place.note(child)
            remedy = "Pick another port with --prometheus-port, or another HOP2RAG_CACHE if its data are at fault."
            await_ready(child, self.client.ready, READY_TIMEOUT_SECONDS, "Prometheus", f"{HOST}:{self._port}", remedy)
            unless_ready.pop_all()
        self._child = child
        self._place.note(child, is_ready=True)
        return True

    def stop(self) -> None:
        """Stop the Prometheus that `start` started, and keep its data; or give one that was reused its configuration.

        Raises:
            PrometheusError: one that was reused does not answer.
            StorageError: its configuration cannot be written.
        """
        with ExitStack() as stack:
            stack.callback(self._place.release)
            if self._child is not None:
                self._place.note(self._child)
                stack.callback(self._child.stop)
                self._child = None
                self._drop_targets()
                wait_until_stale(self.client, self._began)
        if self._before is not None:
            self._write(self._config, self._before)
            self._before = None
            if self.client.ready():
                self._reload()

    @property
    def child(self) -> ChildProcess | None:
        """The server, if it was started here."""
        return self._child

    def _require_free(self) -> None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((HOST, self._port)) != 0:
                return
        self._require_ours()
        raise UsageError(
            f"A Prometheus of ours runs on {self.url}, and no command of this cache keeps it.",
            f"Stop it: {find_listener(self._port)}.",
        )

    def _require_ours(self) -> None:
        try:
            used = self.client.flags().get("config.file")
        except PrometheusError as error:
            if keeper := self._place.owner:
                raise DependencyDownError(
                    f"The Prometheus of {keeper} does not answer.", "Stop that, then try again."
                ) from error
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

    def _drop_targets(self) -> None:
        """End what is scraped, before what is scraped ends."""
        addresses = self.targets.addresses()
        self.targets.clear()
        wait_until_left(self.client, addresses)

    def _write_config(self, kept: str | None = None) -> None:
        """Write our configuration; alerts go to our Alertmanager, else to the one that is `kept`."""
        alertmanager = self._alertmanager or kept
        password = folder_of(self._cache, alertmanager) / PASSWORD if alertmanager else None
        self._write(
            self._config,
            render_config(
                asset("prometheus/prometheus.yml"),
                targets=self.targets.folder,
                port=self._port,
                sample_interval_ms=self._sample_interval_ms,
                alertmanager=alertmanager,
                password_file=password if password and password.exists() else None,
                alerts=self._alerts,
            ),
        )

    def _write(self, path: Path, text: str) -> None:
        try:
            make_folder(path.parent)
            path.write_text(text)
        except OSError as error:
            raise StorageError(f"Cannot write {path}: {error.strerror}.", "Set HOP2RAG_CACHE.") from error

    def __enter__(self) -> Self:
        with self._stack as stack:
            stack.enter_context(self._used.acquire(by=self._by))
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            self.stop()
