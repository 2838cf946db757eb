"""Grafana of our own: found where it is installed, started with our folder and no default password, stopped."""

from __future__ import annotations

import re
import stat
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from workload.errors import DependencyDownError, UsageError
from workload.paths import asset
from workload.services.grafana_server import GrafanaBinary, LocalGrafana, find_grafana_server
from workload.services.process import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The server's settings, answered as the message of its health.
STUB = f"""#!{sys.executable}
import http.server, json, os, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {{name: value for name, value in os.environ.items() if name.startswith(("GF_", "HOP2RAG_"))}}
        body = json.dumps({{"database": "ok", "argv": sys.argv[1:], "told": told}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
address = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
http.server.HTTPServer(address, Health).serve_forever()
"""


def install(root: Path, text: str = STUB, name: str = "grafana") -> Mapping[str, str]:
    """Install a Grafana as its archive does and return an environment that has it on PATH."""
    (root / "bin").mkdir(parents=True)
    (root / "conf").mkdir()
    (root / "conf" / "defaults.ini").touch()
    binary = root / "bin" / name
    binary.write_text(text)
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    return {"PATH": str(root / "bin")}


def test_it_is_started_with_our_folder(tmp_path: Path) -> None:
    """On loopback alone, provisioned, silent towards the internet, and with a password that no other program knows."""
    binary = find_grafana_server(install(tmp_path / "grafana"))
    assert binary
    with LocalGrafana(binary, tmp_path, "http://127.0.0.1:9090", port=free_port()) as running:
        health = running._client.health()
        told = health["told"]
        password = running.password_file.read_text()
        assert stat.S_IMODE(running.password_file.stat().st_mode) == 0o600
    assert health["argv"] == ["server", "--homepath", str(tmp_path / "grafana")]
    assert told["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert told["GF_SECURITY_ADMIN_PASSWORD__FILE"] == str(running.password_file)
    assert told["GF_PATHS_PROVISIONING"] == str(asset("grafana") / "provisioning")
    assert {value for name, value in told.items() if "ANALYTICS" in name or "NEWS" in name} == {"false"}
    assert len(password) >= 32
    with LocalGrafana(binary, tmp_path, "http://127.0.0.1:9090", port=running._port.number):
        assert running.password_file.read_text() == password


def test_every_variable_of_the_provisioning_is_reported(tmp_path: Path) -> None:
    """One that is missing is an empty address or folder, and every panel an error."""
    told = LocalGrafana(GrafanaBinary(("grafana",), tmp_path), tmp_path, "http://127.0.0.1:9090")._environment
    texts = [path.read_text() for path in (asset("grafana") / "provisioning").rglob("*.yml")]
    wanted = {name for text in texts for name in re.findall(r"\$(\w+)", str(yaml.safe_load(text)))}
    assert wanted
    assert wanted <= told.keys()


def test_one_that_ends_at_once_is_named(tmp_path: Path) -> None:
    """With the end of its log, which says why."""
    binary = find_grafana_server(install(tmp_path / "grafana", "#!/bin/sh\necho no such migration; exit 1\n"))
    assert binary
    with pytest.raises(DependencyDownError, match="no such migration"):
        LocalGrafana(binary, tmp_path, "http://127.0.0.1:9090", port=free_port()).start()


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    """Somebody else's Grafana is neither configured nor stopped."""
    binary = find_grafana_server(install(tmp_path / "grafana"))
    assert binary
    port = free_port()
    with (
        LocalGrafana(binary, tmp_path, "http://127.0.0.1:9090", port=port),
        pytest.raises(UsageError, match="Another Grafana"),
    ):
        LocalGrafana(binary, tmp_path / "second", "http://127.0.0.1:9090", port=port).start()


def test_where_it_is_found(tmp_path: Path) -> None:
    """Packages before Grafana 9 have another name, and distributions put the pages elsewhere."""
    old = find_grafana_server(install(tmp_path / "old", name="grafana-server"))
    assert old == GrafanaBinary((str(tmp_path / "old" / "bin" / "grafana-server"),), tmp_path / "old")
    environ = install(tmp_path / "moved")
    (tmp_path / "moved" / "conf").rename(tmp_path / "conf")
    assert find_grafana_server({**environ, "GF_PATHS_HOME": str(tmp_path)}) == GrafanaBinary(
        (str(tmp_path / "moved" / "bin" / "grafana"), "server"), tmp_path
    )
    assert find_grafana_server({**environ, "GF_PATHS_HOME": str(tmp_path / "nowhere")}) is None
    assert find_grafana_server({"PATH": str(tmp_path)}) is None
