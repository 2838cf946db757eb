"""Alertmanager: asked over HTTP, and run by us on 127.0.0.1 with one webhook as its receiver."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import bcrypt
import requests
import yaml

from workload.errors import DependencyDownError
from workload.files import atomic_file
from workload.paths import asset
from workload.services.alert_webhook import read_token
from workload.services.local_server import SharedServer
from workload.services.locks import THIS_COMMAND, Requester

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.services.prometheus_binary import AlertmanagerBinary

ANSWER_SECONDS = 5.0
TOKEN_BYTES = 32
USER = "hop2rag"
PASSWORD, WEB_CONFIG = "api-password", "web.yml"
SECRET_BYTES = 32
COST = 10
"""Alertmanager hashes at each request, so the cost is low; a password of 32 random bytes cannot be guessed anyway."""


class AlertmanagerClient:
    """Asks one Alertmanager over a `requests` session.

    Args:
        auth: returns user and password, or None if it asks for none.
    """

    def __init__(
        self, url: str, session: requests.Session, auth: Callable[[], tuple[str, str] | None] = lambda: None
    ) -> None:
        self.url = url
        self._session, self._auth = session, auth

    def ready(self) -> bool:
        """Return whether it takes alerts now."""
        try:
            self._send("GET", "/-/ready")
        except DependencyDownError:
            return False
        return True

    def firing(self) -> list[dict[str, Any]]:
        """Return the alerts that fire and are neither silenced nor inhibited, as its API lists them.

        Raises:
            DependencyDownError: it does not answer, or not as Alertmanager does.
        """
        found = self._json("/api/v2/alerts", {"active": "true", "silenced": "false", "inhibited": "false"})
        if not isinstance(found, list):
            raise self._odd()
        return found

    def configuration(self) -> str:
        """Return the configuration it runs with, without secrets. Raises as `firing`."""
        try:
            return str(self._json("/api/v2/status")["config"]["original"])
        except (KeyError, TypeError) as error:
            raise self._odd() from error

    def reload(self) -> None:
        """Have it read its configuration again.

        Raises:
            DependencyDownError: it refused the configuration and continues with the old one, or does not answer.
        """
        self._send("POST", "/-/reload")

    def _json(self, path: str, parameters: dict[str, str] | None = None) -> Any:
        try:
            return self._send("GET", path, parameters).json()
        except (ValueError, RecursionError) as error:
            raise self._odd() from error

    def _send(self, method: str, path: str, parameters: dict[str, str] | None = None) -> requests.Response:
        try:
            response = self._session.request(
                method, self.url + path, params=parameters, auth=self._auth(), timeout=ANSWER_SECONDS
            )
            response.raise_for_status()
        except OSError as error:  # from `requests`, or from the password's file
            reason = str(error.response.status_code) if isinstance(error, requests.HTTPError) else type(error).__name__
            raise DependencyDownError(
                f"Alertmanager at {self.url}{path} does not answer ({reason}).", "Start it, or look at its log."
            ) from error
        return response

    def _odd(self) -> DependencyDownError:
        return DependencyDownError(f"{self.url} answers, but not as Alertmanager does.", "Check the address.")


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


class LocalAlertmanager(SharedServer):
    """Alertmanager, configured to call one webhook.

    Attributes:
        token_file: the bearer token that it presents to the webhook; created on first use, readable by its owner only.
        password_file: the password of its own pages and API, renewed at each start; see `renew`.
    """

    name = "Alertmanager"
    ready_seconds = 30.0
    remedy = "Pick another port with --alertmanager-port."

    def __init__(
        self,
        binary: AlertmanagerBinary,
        cache: Path,
        session: requests.Session,
        *,
        port: int = 9093,
        webhook: str,
        by: Requester = THIS_COMMAND,
    ) -> None:
        super().__init__(cache, port, by, config="alertmanager.yml")
        self.client = AlertmanagerClient(self.url, session, lambda: basic_auth(self._folder))
        self.token_file = self._folder / "webhook-token"
        self.password_file = self._folder / PASSWORD
        self._webhook = webhook
        self._argv = (
            *binary.command,
            f"--config.file={self._config}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address={self.address}",
            f"--web.config.file={self._folder / WEB_CONFIG}",
            "--cluster.listen-address=",
        )

    @property
    def token(self) -> str:
        """The webhook's bearer token."""
        return self.token_file.read_text().strip()

    def is_ready(self) -> bool:
        """Return whether it takes alerts now."""
        return self.client.ready()

    def calls_us(self) -> bool:
        """Return whether its configuration still calls our webhook.

        This reads the file, because Alertmanager's API does not show the addresses of its webhooks.
        """
        try:
            return self._config.read_text() == self._rendered()
        except OSError:
            return False

    def _is_ours(self) -> bool:
        try:
            return str(self.token_file) in self.client.configuration()
        except DependencyDownError as error:
            response = getattr(error.__cause__, "response", None)
            if response is not None and response.status_code == HTTPStatus.UNAUTHORIZED:
                return False  # ours would have accepted the password that we know
            raise

    def _prepare(self) -> None:
        self._configure()
        renew(self._folder)

    def _configure(self, theirs: str | None = None) -> None:
        del theirs  # nothing of it is kept
        atomic_file.write(self._config, self._rendered())
        if not self.token_file.exists():
            atomic_file.write(self.token_file, secrets.token_urlsafe(TOKEN_BYTES))

    def _reload(self) -> None:
        self.client.reload()

    def _rendered(self) -> str:
        return render_config(asset("prometheus/alertmanager.yml"), webhook=self._webhook, token_file=self.token_file)


class AttachedAlertmanager:
    """An Alertmanager of another user, one of whose receivers calls our webhook. A context manager.

    Args:
        token_file: the bearer token that it presents to the webhook.
    """

    def __init__(self, url: str, token_file: Path, session: requests.Session) -> None:
        self.client = AlertmanagerClient(url, session)
        self.token = read_token(token_file)

    def __enter__(self) -> Self:
        """Check that it answers.

        Raises:
            DependencyDownError: it is not ready.
        """
        if not self.client.ready():
            raise DependencyDownError(
                f"Alertmanager on {self.client.url} is not ready.", "Start it, or look at its log."
            )
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave it as it is."""


def folder_of(cache: Path, address: str) -> Path:
    """Return the folder of our Alertmanager at "host:port"."""
    return cache / f"alertmanager-{address.rpartition(':')[2]}"


def renew(folder: Path) -> None:
    """Write a new password, and the web configuration with which Alertmanager asks for it.

    Raises:
        StorageError: they cannot be written.
    """
    password = secrets.token_urlsafe(SECRET_BYTES)
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode()
    atomic_file.write(folder / PASSWORD, password)
    atomic_file.write(folder / WEB_CONFIG, yaml.safe_dump({"basic_auth_users": {USER: digest}}))


def basic_auth(folder: Path) -> tuple[str, str] | None:
    """Return user and password; None if this Alertmanager was never started with one."""
    try:
        return USER, (folder / PASSWORD).read_text()
    except FileNotFoundError:
        return None
