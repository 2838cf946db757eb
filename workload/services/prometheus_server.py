"""Runs Prometheus on 127.0.0.1 with its configuration rendered for this host, or uses one that another user runs."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import requests
import yaml

from workload.errors import DependencyDownError, UsageError
from workload.files import atomic_file
from workload.paths import asset
from workload.services.alertmanager import PASSWORD, USER, folder_of
from workload.services.limits import LimitedAdapter
from workload.services.listener import find_listener
from workload.services.local_server import SharedServer
from workload.services.locks import THIS_COMMAND, FileLock, Requester
from workload.services.process import HOST
from workload.services.prometheus import PrometheusClient, PrometheusError
from workload.services.rule_files import alerts_on_live_targets
from workload.services.scrape_registration import stop_scraping, wait_until_stale
from workload.services.targets import TargetFiles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workload.services.prometheus_binary import PrometheusBinary

SIZE_PATTERN = r"^[1-9]\d{0,5}(MB|GB|TB)$"
RETENTION_SIZE = "10GB"
"""The most that our Prometheus stores, days of one engine; it then deletes the oldest blocks."""

EXEMPLARS = "--enable-feature=exemplar-storage"
"""Without it Prometheus drops the trace ids that the agent's histograms carry."""

ALERTS = "alerts/*.yml"
READY_TIMEOUT_SECONDS, RELOAD_SECONDS, POLL_SECONDS = 60.0, 15.0, 0.05


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
        template: the shipped `prometheus.yml`; its rule files are in the same folder.
        targets: the folder of the `file_sd` files.
        port: where Prometheus itself listens.
        sample_interval_ms: the interval and time-out of vllm-fast.
        alertmanager: the "host:port" to send alerts to; None to evaluate and store them only.
        password_file: Alertmanager's password, if it asks for one; see `workload.services.alertmanager`.
        alerts: a rule file in place of the template's alerts, as `rule_files.alerts_on_live_targets` returns it.
    """
    config: dict[str, Any] = yaml.safe_load(template.read_text())
    config["rule_files"] = [
        str(alerts if alerts and pattern == ALERTS else template.parent / pattern) for pattern in config["rule_files"]
    ]
    if alertmanager:
        server: dict[str, Any] = {"static_configs": [{"targets": [alertmanager]}]}
        if password_file:
            server["basic_auth"] = {"username": USER, "password_file": str(password_file)}
        config["alerting"] = {"alertmanagers": [server]}
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
    """Return the "host:port" to which a rendered configuration sends its alerts; None if it sends none."""
    alerting = yaml.safe_load(config).get("alerting")
    return str(alerting["alertmanagers"][0]["static_configs"][0]["targets"][0]) if alerting else None


def targets_folder(cache: Path, port: int) -> Path:
    """Return the folder from which our Prometheus on `port` reads its targets."""
    return cache / f"prometheus-{port}" / "targets"


def loopback_session() -> requests.Session:
    """Return an HTTP session that bypasses any proxy and limits the size and time of answers (`services.limits`)."""
    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, LimitedAdapter())
    return session


class LocalPrometheus(SharedServer):
    """Prometheus, which scrapes the targets of one command at a time.

    Attributes:
        targets: its target files. A start clears them, so nothing is scraped under the name of an earlier arm.
    """

    name = "Prometheus"
    # A start replays the write-ahead log: seconds after a run of an hour.
    ready_seconds = READY_TIMEOUT_SECONDS
    remedy = "Pick another port with --prometheus-port, or another HOP2RAG_CACHE if its data are at fault."

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
        self.targets = TargetFiles(targets_folder(cache, port))
        super().__init__(cache, port, by, config="prometheus.yml", users=self.targets.folder)
        self.client = PrometheusClient(self.url, session)
        self._alerts = self._folder / "alerts.yml"
        self._sample_interval_ms = sample_interval_ms
        self._alertmanager = alertmanager
        self._cache = cache
        self._argv = (
            str(binary.prometheus),
            f"--config.file={self._config}",
            f"--web.listen-address={self.address}",
            # No page of another origin may read the data; by default every page may.
            "--web.cors.origin=^$",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--storage.tsdb.retention.time={retention}",
            f"--storage.tsdb.retention.size={retention_size}",
            EXEMPLARS,
            # An alert that Alertmanager did not receive is sent again at once: a minute is too long for steering.
            "--rules.alert.resend-delay=1s",
        )
        self._began = 0.0

    def start(self, *, shares: bool = True) -> bool:
        """Start or share it as `SharedServer.start`; a shared one keeps its Alertmanager unless we have our own."""
        is_started = super().start(shares=shares)
        if not is_started:
            stop_scraping(self.targets, self.client)
        return is_started

    def is_ready(self) -> bool:
        """Return whether it answers and has finished its start."""
        return self.client.ready()

    def _is_ours(self) -> bool:
        return self.client.flags().get("config.file") == str(self._config)

    def _prepare(self) -> None:
        self._began = time.time()
        alerts = asset("prometheus/prometheus.yml").parent.glob(ALERTS)
        atomic_file.write(self._alerts, alerts_on_live_targets(sorted(alerts), self._began))
        self._configure()
        self.targets.clear()

    def _configure(self, theirs: str | None = None) -> None:
        alertmanager = self._alertmanager or (alertmanager_in(theirs) if theirs else None)
        password = folder_of(self._cache, alertmanager) / PASSWORD if alertmanager else None
        text = render_config(
            asset("prometheus/prometheus.yml"),
            targets=self.targets.folder,
            port=self._port.number,
            sample_interval_ms=self._sample_interval_ms,
            alertmanager=alertmanager,
            password_file=password if password and password.exists() else None,
            alerts=self._alerts,
        )
        atomic_file.write(self._config, text)

    def _reload(self) -> None:
        listener = find_listener(self._port.number)
        if listener is None or listener.pid is None:
            raise UsageError(
                f"The Prometheus on {self.url} belongs to another user.", "Pick another with --prometheus-port."
            )
        reload_by_signal(listener.pid, self.client)

    def _finish(self) -> None:
        stop_scraping(self.targets, self.client)
        wait_until_stale(self.client, self._began)


def reload_by_signal(pid: int, client: PrometheusClient) -> None:
    """Return once a Prometheus has read its configuration again. Over HTTP, any page in a browser could ask for it.

    Raises:
        PrometheusError: it refused them and continues with the old ones, or did not read them in time.
    """
    before = client.last_reload()
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_SECONDS
    while (now := client.last_reload()) == before:
        if time.monotonic() > deadline:
            raise PrometheusError(f"Prometheus at {client.url} did not read its configuration again.", "See its log.")
        time.sleep(POLL_SECONDS)
    if not now[1]:
        raise PrometheusError(
            f"Prometheus at {client.url} refused its configuration.", "Check the files with `promtool check config`."
        )


class AttachedPrometheus:
    """Prometheus at `url`, with its targets reserved for this command while the block lasts. A context manager.

    Args:
        folder: the folder of its `file_sd` files, with prometheus/prometheus.yml as its configuration.
        by: the command that asks; it waits for the command that uses the targets now.
    """

    def __init__(self, url: str, folder: Path, session: requests.Session, by: Requester = THIS_COMMAND) -> None:
        self.url = url
        self.client = PrometheusClient(url, session)
        self.targets = TargetFiles(folder)
        self._used, self._by = FileLock(folder, f"Prometheus on {self.client.url}"), by
        self._stack = ExitStack()
        self._before: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        """Reserve the targets and remember the present ones.

        Raises:
            DependencyDownError: Prometheus is not ready.
        """
        with self._stack as stack:
            stack.enter_context(self._used.acquire(by=self._by))
            if not self.client.ready():
                raise DependencyDownError(f"Prometheus on {self.url} is not ready.", "Start it, or look at its log.")
            self._before = self.targets.read_standing()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        """Restore the earlier targets."""
        with self._stack:
            self.targets.restore(self._before)
