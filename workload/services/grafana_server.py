"""A Grafana of our own on 127.0.0.1, where one is installed: provisioned with our dashboards, started, stopped."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from workload.errors import StorageError, UsageError
from workload.files.atomic_file import make_folder
from workload.paths import asset
from workload.services.child_environment import child_environment
from workload.services.grafana import Grafana, GrafanaError
from workload.services.locks import THIS_COMMAND
from workload.services.process import HOST, ChildProcess, await_ready
from workload.services.server_port import ServerPort

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.services.locks import Requester

READY_TIMEOUT_SECONDS = 60.0
"""A first start makes its database, a migration after the other."""

ANSWER_SECONDS = 2.0
DEFAULTS = Path("conf", "defaults.ini")
PACKAGED_HOME = Path("/usr/share/grafana")
PASSWORD_BYTES = 24


@dataclass(frozen=True)
class GrafanaBinary:
    """The command that starts the server, and the folder that holds its pages and defaults."""

    command: tuple[str, ...]
    home: Path


def find_grafana_server(environ: Mapping[str, str] = os.environ) -> GrafanaBinary | None:
    """Return the Grafana on PATH; None where there is none, or where its folder is not found.

    Its folder is that of GF_PATHS_HOME, else the one that holds the binary's `bin`, else where packages put it.
    """
    path = environ.get("PATH", "")
    if found := shutil.which("grafana", path=path):
        command: tuple[str, ...] = (found, "server")
    elif found := shutil.which("grafana-server", path=path):
        command = (found,)
    else:
        return None
    named = environ.get("GF_PATHS_HOME")
    homes = [Path(named)] if named else [Path(found).resolve().parents[1], PACKAGED_HOME]
    home = next((home for home in homes if (home / DEFAULTS).exists()), None)
    return GrafanaBinary(command, home) if home else None


class LocalGrafana:
    """Grafana under `cache/grafana-PORT`: database, plugins, log, and the password of its admin. A context manager.

    Whoever reaches 127.0.0.1 may look, without a password; changes want the admin's, which is made on the first start
    and kept in `password_file`, readable by its owner only.
    """

    def __init__(
        self,
        binary: GrafanaBinary,
        cache: Path,
        prometheus_url: str,
        *,
        port: int = 3000,
        by: Requester = THIS_COMMAND,
    ) -> None:
        self.url = f"http://{HOST}:{port}"
        self._state = cache / f"grafana-{port}"
        self.password_file = self._state / "admin-password"
        self._binary, self._port = binary, port
        self._client = Grafana(self.url, timeout_s=ANSWER_SECONDS)
        assets = asset("grafana")
        self._environment = {
            "GF_SERVER_HTTP_ADDR": HOST,
            "GF_SERVER_HTTP_PORT": str(port),
            "GF_PATHS_DATA": str(self._state / "data"),
            "GF_PATHS_LOGS": str(self._state / "logs"),
            "GF_PATHS_PLUGINS": str(self._state / "plugins"),
            "GF_PATHS_PROVISIONING": str(assets / "provisioning"),
            "GF_SECURITY_ADMIN_PASSWORD__FILE": str(self.password_file),
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_USERS_ALLOW_SIGN_UP": "false",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            "GF_NEWS_NEWS_FEED_ENABLED": "false",
            "GF_PLUGINS_PREINSTALL_DISABLED": "true",
            "GF_LOG_MODE": "console",
            "HOP2RAG_GRAFANA": str(assets),
            "HOP2RAG_PROMETHEUS_URL": prometheus_url,
        }
        self._child: ChildProcess | None = None
        self._place = ServerPort(cache, "Grafana", port, by)

    @property
    def child(self) -> ChildProcess | None:
        """The server, while it runs."""
        return self._child

    def start(self) -> None:
        """Return once it is ready.

        Raises:
            UsageError: something else has the port.
            DependencyDownError: it stopped or was not ready in time; the end of its log is in the message.
            StorageError: its folder cannot be written.
        """
        self._place.take_alone()
        with ExitStack() as unless_ready:
            unless_ready.callback(self._place.release)
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex((HOST, self._port)) == 0:
                    raise UsageError(f"Address {HOST}:{self._port} is in use.", "Pick another with --grafana-port.")
            self._write_password()
            log = self._state / "grafana.log"
            argv = (*self._binary.command, "--homepath", str(self._binary.home))
            child = ChildProcess(argv, log, {**child_environment(), **self._environment})
            self._place.note(child)
            remedy = "Take it off PATH to do without."
            address = f"{HOST}:{self._port}"
            await_ready(child, self._is_ready, READY_TIMEOUT_SECONDS, "Grafana", address, remedy)
            unless_ready.pop_all()
        self._child = child
        self._place.note(child, is_ready=True)

    def stop(self) -> None:
        """Stop it; its database stays for the next start."""
        if self._child is not None:
            self._place.note(self._child)
            self._child.stop()
            self._child = None
        self._place.release()

    def _is_ready(self) -> bool:
        try:
            return self._client.health().get("database") == "ok"
        except GrafanaError:
            return False

    def _write_password(self) -> None:
        try:
            make_folder(self._state)
            with open(os.open(self.password_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:  # noqa: PTH123
                stream.write(secrets.token_urlsafe(PASSWORD_BYTES))
        except FileExistsError:
            return  # the password of an earlier start
        except OSError as error:
            raise StorageError(f"Cannot write {self._state}: {error.strerror}.", "Set HOP2RAG_CACHE.") from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
