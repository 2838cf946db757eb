"""An Alertmanager of our own on 127.0.0.1: configured for one webhook, started, reused, asked, stopped."""

from __future__ import annotations

import secrets
import socket
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import requests
import yaml

from workload.errors import DependencyDownError, StorageError, UsageError
from workload.files.atomic_file import make_folder
from workload.paths import asset
from workload.services.alertmanager_access import PASSWORD, WEB_CONFIG, basic_auth, renew, write_secret
from workload.services.listener import find_listener
from workload.services.locks import THIS_COMMAND, FileLock
from workload.services.process import HOST, ChildProcess, await_ready
from workload.services.server_port import ServerPort

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.services.locks import Requester
    from workload.services.prometheus_binary import AlertmanagerBinary

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
        except OSError:  # of `requests`, or of the password's file
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
        except (OSError, ValueError, RecursionError) as error:
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
    """Alertmanager under `cache/alertmanager-PORT`: configuration, webhook token, data and log.

    As a context manager it calls our webhook alone: started, or reused where somebody keeps one of ours, and whoever it
    calls now is waited for. `start` and `stop` alone keep one for others.

    Attributes:
        address: its "host:port", as Prometheus wants it.
        token_file: what the webhook's caller is known by; made on first use, readable by its owner only.
        password_file: what its own pages and API ask for, new with each start: `workload.services.alertmanager_access`.
    """

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
        state = cache / f"alertmanager-{port}"
        self.address = f"{HOST}:{port}"
        self.client = AlertmanagerClient(f"http://{self.address}", session, lambda: basic_auth(state))
        self.token_file = state / "webhook-token"
        self.password_file = state / PASSWORD
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
        self._place = ServerPort(cache, "Alertmanager", port, by)
        self._used, self._by = FileLock(state, f"Alertmanager on port {port}"), by
        self._stack = ExitStack()
        self._before: str | None = None

    @property
    def token(self) -> str:
        """The webhook's bearer token."""
        return self.token_file.read_text().strip()

    @property
    def child(self) -> ChildProcess | None:
        """The server, if it was started here."""
        return self._child

    def start(self, *, shares: bool = True) -> bool:
        """Return True once an Alertmanager started here is ready, False when one that is kept already is reused.

        One that is reused calls our webhook; `stop` gives it its configuration back and leaves it running.

        Args:
            shares: whether one that somebody else keeps will do.

        Raises:
            UsageError: something else has the port, or somebody else keeps one that will not do.
            DependencyDownError: it stopped or was not ready in time; the end of its log is in the message.
            StorageError: its files cannot be written.
        """
        if not (self._place.take(READY_TIMEOUT_SECONDS) if shares else self._place.take_alone()):
            self._require_ours()
            self._before = self._config.read_text()
            self._write()
            self.client.reload()
            return False
        with ExitStack() as unless_ready:
            unless_ready.callback(self._place.release)
            self._require_free()
            self._write(renews=True)
            child = ChildProcess(self._argv, self._log)
            self._place.note(child)
            remedy = "Pick another port with --alertmanager-port."
            await_ready(child, self.client.ready, READY_TIMEOUT_SECONDS, "Alertmanager", self.address, remedy)
            unless_ready.pop_all()
        self._child = child
        self._place.note(child, is_ready=True)
        return True

    def stop(self) -> None:
        """Stop the Alertmanager that `start` started, or give one that was reused its configuration back.

        Raises:
            DependencyDownError: one that was reused does not take it.
            StorageError: its configuration cannot be written.
        """
        if self._child is not None:
            self._place.note(self._child)
            self._child.stop()
            self._child = None
        self._place.release()
        if self._before is not None:
            self._write(self._before)
            self._before = None
            if self.client.ready():
                self.client.reload()

    def calls_us(self) -> bool:
        """Return whether its configuration is still the one that calls our webhook.

        The file is looked at: Alertmanager does not tell where its webhooks are.
        """
        try:
            return self._config.read_text() == self._rendered()
        except OSError:
            return False

    def _require_free(self) -> None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((HOST, self._port)) != 0:
                return
        self._require_ours()
        raise UsageError(
            f"An Alertmanager of ours runs on {self.address}, and no command of this cache keeps it.",
            f"Stop it: {find_listener(self._port)}.",
        )

    def _require_ours(self) -> None:
        remedy = "Pick another with --alertmanager-port."
        try:
            used = self.client.configuration()
        except (DependencyDownError, KeyError, TypeError) as error:
            if _wants_a_password(error):
                used = ""  # ours would have taken the one that we know
            elif keeper := self._place.owner:
                raise DependencyDownError(
                    f"The Alertmanager of {keeper} does not answer.", "Stop that, then try again."
                ) from error
            else:
                raise UsageError(f"Address {self.address} is in use, not by Alertmanager.", remedy) from error
        if str(self.token_file) not in used:
            raise UsageError(f"An Alertmanager of someone else runs on {self.address}.", f"Stop it. {remedy}")

    def _rendered(self) -> str:
        return render_config(asset("prometheus/alertmanager.yml"), webhook=self._webhook, token_file=self.token_file)

    def _write(self, text: str | None = None, *, renews: bool = False) -> None:
        text = text or self._rendered()
        try:
            make_folder(self._config.parent)
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
        with self._stack as stack:
            stack.enter_context(self._used.acquire(by=self._by))
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            self.stop()


def _wants_a_password(error: Exception) -> bool:
    response = getattr(error.__cause__, "response", None)
    return response is not None and response.status_code == HTTPStatus.UNAUTHORIZED
