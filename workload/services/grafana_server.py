"""Runs the installed Grafana on 127.0.0.1, provisioned with our dashboards."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workload.files import atomic_file
from workload.paths import asset
from workload.services.child_environment import child_environment
from workload.services.grafana import Grafana, GrafanaError
from workload.services.local_server import LocalServer
from workload.services.locks import THIS_COMMAND, Requester
from workload.services.process import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping


ANSWER_SECONDS = 2.0
DEFAULTS = Path("conf", "defaults.ini")
PACKAGED_HOME = Path("/usr/share/grafana")
PASSWORD_BYTES = 24


@dataclass(frozen=True)
class GrafanaBinary:
    """The command that starts the server, and the folder with its pages and defaults."""

    command: tuple[str, ...]
    home: Path


def find_grafana_server(environ: Mapping[str, str] = os.environ) -> GrafanaBinary | None:
    """Return the Grafana on PATH; None if there is none, or its folder is not found.

    Its folder is GF_PATHS_HOME, else the parent of the binary's `bin`, else the folder that packages use.
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


class LocalGrafana(LocalServer):
    """Grafana, provisioned with our dashboards.

    Anyone who reaches 127.0.0.1 can view it without a password; changes need the admin's, which the first start
    generates in `password_file`, readable by its owner only.
    """

    name = "Grafana"
    remedy = "Take it off PATH to do without."

    def __init__(
        self,
        binary: GrafanaBinary,
        cache: Path,
        prometheus_url: str,
        *,
        port: int = 3000,
        by: Requester = THIS_COMMAND,
    ) -> None:
        super().__init__(cache, port, by)
        self.password_file = self._folder / "admin-password"
        self._client = Grafana(self.url, timeout_s=ANSWER_SECONDS)
        self._argv = (*binary.command, "--homepath", str(binary.home))
        assets = asset("grafana")
        self._environment = {
            **child_environment(),
            "GF_SERVER_HTTP_ADDR": HOST,
            "GF_SERVER_HTTP_PORT": str(port),
            "GF_PATHS_DATA": str(self._folder / "data"),
            "GF_PATHS_LOGS": str(self._folder / "logs"),
            "GF_PATHS_PLUGINS": str(self._folder / "plugins"),
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
            "HOP2RAG_TEMPO_UID": os.environ.get("HOP2RAG_TEMPO_UID", ""),
        }

    def is_ready(self) -> bool:
        """Return whether it answers and its database is up."""
        try:
            return self._client.health().get("database") == "ok"
        except GrafanaError:
            return False

    def _is_ours(self) -> bool:
        self._client.health()
        return False  # a Grafana does not show on which files it runs

    def _prepare(self) -> None:
        if not self.password_file.exists():
            atomic_file.write(self.password_file, secrets.token_urlsafe(PASSWORD_BYTES))
