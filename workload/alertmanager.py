"""An Alertmanager of our own on 127.0.0.1: configured for one webhook, started, reused, asked, stopped."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, Any, Self

import requests
import yaml

from workload.alertmanager_access import WEB_CONFIG, basic_auth, renew, write_secret
from workload.errors import DependencyDownError, StorageError, UsageError
from workload.paths import asset
from workload.process import ChildProcess, await_ready
from workload.prometheus_server import HOST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.prometheus_binary import AlertmanagerBinary

READY_TIMEOUT_SECONDS = 30.0
ANSWER_SECONDS = 5.0
TOKEN_BYTES = 32


class AlertmanagerClient:
    """Asks one Alertmanager over a `requests` session.

    Args:
        url: where it answers.
        session: the HTTP session.
        auth: returns user and password, if it asks for them.
    """

    def __init__(
        self, url: str, session: requests.Session, auth: Callable[[], tuple[str, str] | None] = lambda: None
    ) -> None:
        self.url = url
        self._session, self._auth = session, auth

    def ready(self) -> bool:
        """Return whether it takes alerts now."""
        try:
            return self._session.get(f"{self.url}/-/ready", auth=self._auth(), timeout=ANSWER_SECONDS).ok
        except requests.RequestException:
            return False

    def firing(self) -> list[dict[str, Any]]:
        """Return the alerts that fire now and are neither silenced nor inhibited, as its API tells them.

        Raises:
            DependencyDownError: it does not answer, or not as Alertmanager does.
        """
        parameters = {"active": "true", "silenced": "false", "inhibited": "false"}
        found = self._get("/api/v2/alerts", parameters)
        if not isinstance(found, list):
            raise DependencyDownError(f"{self.url} answers, but not as Alertmanager does.", "Check the address.")
        return found

    def configuration(self) -> str:
        """Return the configuration it runs with, secrets left out. Raises as `firing`."""
        return str(self._get("/api/v2/status")["config"]["original"])

    def reload(self) -> None:
        """Have it read its configuration again.

        Raises:
            DependencyDownError: it refused; it then goes on with the old configuration.
        """
        try:
            told = self._session.post(f"{self.url}/-/reload", auth=self._auth(), timeout=ANSWER_SECONDS)
            told.raise_for_status()
        except requests.RequestException as error:
            raise DependencyDownError(f"Alertmanager at {self.url} did not reload.", "See its log.") from error

    def _get(self, path: str, parameters: dict[str, str] | None = None) -> Any:
        try:
            response = self._session.get(self.url + path, params=parameters, auth=self._auth(), timeout=ANSWER_SECONDS)
            response.raise_for_status()
            return response.json()
        except (requests.RequestException, ValueError, RecursionError) as error:
            raise DependencyDownError(
                f"Alertmanager at {self.url} does not answer ({type(error).__name__}).", "Start it with `hop2rag up`."
            ) from error


def render_config(template: Path, *, webhook: str, token_file: Path) -> str:
    """Return `template` for this host: every receiver calls `webhook` with the bearer token in `token_file`."""
    config: dict[str, Any] = yaml.safe_load(template.read_text())
    for receiver in config["receivers"]:
        for target in receiver["webhook_configs"]:
            target["url"] = webhook
            target["http_config"] = {
                **target["http_config"],
                "authorization": {"type": "Bearer", "credentials_file": str(token_file)},
            }
    return yaml.safe_dump(config, sort_keys=False, width=1000)


class LocalAlertmanager:
    """Alertmanager under `cache/alertmanager-PORT`: configuration, webhook token, data and log. A context manager.

    Attributes:
        address: its "host:port", as Prometheus wants it.
        token_file: what the webhook's caller is known by; made on first use, readable by its owner only.

    Its own API asks for a password, new with each start, that lies beside it: `workload.alertmanager_access`.
    """

    def __init__(
        self, binary: AlertmanagerBinary, cache: Path, session: requests.Session, *, port: int = 9093, webhook: str
    ) -> None:
        state = cache / f"alertmanager-{port}"
        self.address = f"{HOST}:{port}"
        self.client = AlertmanagerClient(f"http://{self.address}", session, lambda: basic_auth(state))
        self.token_file = state / "webhook-token"
        self._port, self._webhook = port, webhook
        self._config, self._log = state / "alertmanager.yml", state / "alertmanager.log"
        self._argv = (
            *binary.command,
            f"--config.file={self._config}",
            f"--storage.path={state / 'data'}",
            f"--web.listen-address={self.address}",
            f"--web.config.file={state / WEB_CONFIG}",
            "--cluster.listen-address=",
        )
        self._child: ChildProcess | None = None

    @property
    def token(self) -> str:
        """The webhook's bearer token."""
        return self.token_file.read_text().strip()

    def start(self) -> bool:
        """Return True once an Alertmanager started here is ready, False when one of ours was running and is now reused.

        Raises:
            UsageError: something else has the port.
            DependencyDownError: it stopped or was not ready in time; the end of its log is in the message.
            StorageError: its files cannot be written.
        """
        if self._port_taken():
            self._require_ours()
            self._write()
            self.client.reload()
            return False
        self._write(renews=True)
        child = ChildProcess(self._argv, self._log)
        remedy = "Pick another port with --alertmanager-port."
        await_ready(child, self.client.ready, READY_TIMEOUT_SECONDS, "Alertmanager", self.address, remedy)
        self._child = child
        return True

    def stop(self) -> None:
        """Stop the Alertmanager that `start` started, if it did."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _port_taken(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((HOST, self._port)) == 0

    def _require_ours(self) -> None:
        remedy = "Pick another with --alertmanager-port."
        try:
            used = self.client.configuration()
        except (DependencyDownError, KeyError, TypeError) as error:
            raise UsageError(f"Address {self.address} is in use, not by Alertmanager.", remedy) from error
        if str(self.token_file) not in used:
            raise UsageError(f"An Alertmanager of someone else runs on {self.address}.", f"Stop it. {remedy}")

    def _write(self, *, renews: bool = False) -> None:
        text = render_config(asset("prometheus/alertmanager.yml"), webhook=self._webhook, token_file=self.token_file)
        try:
            self._config.parent.mkdir(parents=True, exist_ok=True)
            self._config.write_text(text)
            if not self.token_file.exists():
                write_secret(self.token_file, secrets.token_urlsafe(TOKEN_BYTES))
            if renews:
                renew(self._config.parent)
        except OSError as error:
            raise StorageError(
                f"Cannot write {self._config.parent}: {error.strerror}.", "Set HOP2RAG_CACHE."
            ) from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
