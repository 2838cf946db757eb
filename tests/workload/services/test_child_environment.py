"""The environment of our children: a secret reaches only the program that needs it."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from workload.demo.recording import find_recordings
from workload.demo.server import _load
from workload.engine.install import EngineInstallation
from workload.engine.launcher import ProcessLauncher
from workload.engine.profile import PROFILES
from workload.engine.selection import inspect_engine
from workload.paths import asset, cache_dir
from workload.services.alertmanager import LocalAlertmanager
from workload.services.child_environment import DOWNLOAD, ENGINE, INSTALLER, PLAIN, PYTHON, child_environment
from workload.services.exporter_process import start_exporter
from workload.services.grafana_server import GrafanaBinary, LocalGrafana
from workload.services.process import ChildProcess, free_port
from workload.services.prometheus_binary import find_alertmanager, find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session

ROOT = Path(__file__).parents[3]
STUB = ROOT / "tests" / "workload" / "engine" / "stub_vllm.py"
GRAFANA = """
import http.server, os
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"database": "ok"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["GF_SERVER_HTTP_PORT"])), Health).serve_forever()
"""

SECRETS = {
    name: f"canary-{name}"
    for name in (
        *("GRAFANA_TOKEN", "GRAFANA_TOKEN_FILE", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY"),
        *("AZURE_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS", "GITHUB_TOKEN", "KUBECONFIG", "DATABASE_URL"),
        *("LANGSMITH_API_KEY", "WANDB_API_KEY", "SSH_AUTH_SOCK", "OTEL_EXPORTER_OTLP_HEADERS", "HOP2RAG_CANARY"),
        *("DOCKER_AUTH_CONFIG", "NETRC", "SOMETHING_NEW_SECRET", "GF_SECURITY_ADMIN_PASSWORD"),
    )
}
FOR_ONE = {"HF_TOKEN": ENGINE, "VLLM_API_KEY": ENGINE, "HTTPS_PROXY": DOWNLOAD, "PIP_INDEX_URL": INSTALLER}


@pytest.mark.parametrize("names", [PLAIN, PYTHON, DOWNLOAD, INSTALLER, ENGINE])
def test_no_list_hands_on_what_was_not_named(names: tuple[str, ...]) -> None:
    """The list is of what is needed: one of what is forbidden would miss the next service's token."""
    reported = child_environment(names, {"PATH": "/bin", **SECRETS})
    assert not reported.keys() & SECRETS.keys()


@pytest.mark.parametrize(("name", "owner"), FOR_ONE.items())
def test_a_secret_that_one_needs_reaches_no_other(name: str, owner: tuple[str, ...]) -> None:
    """A gated model wants its token, pip its index; Prometheus wants neither."""
    lists = {"plain": PLAIN, "python": PYTHON, "download": DOWNLOAD, "installer": INSTALLER, "engine": ENGINE}
    assert name in child_environment(owner, {name: "canary"})
    for other in ("plain", "python"):
        assert name not in child_environment(lists[other], {name: "canary"})


def test_what_is_needed_is_kept() -> None:
    """Without a PATH, a library path or the device's settings a child starts nowhere, or elsewhere."""
    wanted = ("PATH", "HOME", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD")
    assert child_environment(PLAIN, dict.fromkeys(wanted, "x")).keys() == set(wanted)
    wanted = ("CUDA_VISIBLE_DEVICES", "VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "HF_HOME")
    assert child_environment(ENGINE, dict.fromkeys(wanted, "x")).keys() == set(wanted)


def environment_of(child: ChildProcess | None) -> bytes:
    """Return what a running child was started with."""
    assert child is not None
    return Path(f"/proc/{child.pid}/environ").read_bytes()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a secret under each name."""
    for name, value in {**SECRETS, **dict.fromkeys(FOR_ONE, "canary")}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("shell")
def test_a_child_that_is_given_nothing_more_has_only_the_plain_ones(tmp_path: Path) -> None:
    """The default is the short list, so a program that is added later leaks nothing by being forgotten."""
    with ChildProcess(("sleep", "60"), tmp_path / "log") as child:
        assert b"canary" not in environment_of(child)
        assert b"PATH=" in environment_of(child)


@pytest.mark.prometheus
@pytest.mark.usefixtures("shell")
def test_prometheus_and_alertmanager_are_given_no_secret(tmp_path: Path) -> None:
    """Every user's alerts and series pass through them; tokens of clouds need not."""
    binary, session = find_alertmanager(cache_dir()), loopback_session()
    hook = "http://127.0.0.1:9/alerts"
    with (
        LocalAlertmanager(binary, tmp_path, session, port=free_port(), webhook=hook) as alertmanager,
        LocalPrometheus(find_prometheus(cache_dir()), tmp_path, session, port=free_port()) as prometheus,
    ):
        assert b"canary" not in environment_of(alertmanager.child)
        assert b"canary" not in environment_of(prometheus.child)


@pytest.mark.usefixtures("shell")
def test_the_exporter_is_given_no_secret(tmp_path: Path) -> None:
    """It serves over HTTP what it knows of processes."""
    others = psutil.Process().children()  # what earlier tests of this process have left running, such as a Prometheus
    with start_exporter(None, 1000, tmp_path):
        (exporter,) = (child for child in psutil.Process().children() if child not in others)
        assert "canary" not in str(exporter.environ())


@pytest.mark.usefixtures("shell")
def test_grafana_is_given_no_secret_but_its_own(tmp_path: Path) -> None:
    """Its plugins are other people's code."""
    program = tmp_path / "grafana"
    program.write_text(f"#!{sys.executable}\n{GRAFANA}")
    program.chmod(0o700)
    grafana = LocalGrafana(GrafanaBinary((str(program),), tmp_path), tmp_path, "http://127.0.0.1:9", port=free_port())
    with grafana:
        assert b"canary" not in environment_of(grafana.child)


@pytest.mark.usefixtures("shell")
def test_the_engine_gets_its_own(tmp_path: Path) -> None:
    """Models run code of strangers where --trust-remote-code is given; a gated model still needs its token."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} "$@"\n')
    python.chmod(0o700)
    installation = EngineInstallation(python, tmp_path / "model", "stub-model", "0.32.0")
    for extra, is_reported in (((), False), (("--otlp-traces-endpoint", "http://127.0.0.1:4317"), True)):
        console = Console(file=io.StringIO())
        launcher = ProcessLauncher(installation, tmp_path / "logs", console, free_port(), extra=extra, key="canary")
        with launcher.start(PROFILES["base"]):
            reported = environment_of(launcher.child)
        planted = {line.split(b"=")[0].decode() for line in reported.split(b"\0") if b"canary" in line}
        assert planted - {"HF_TOKEN", "VLLM_API_KEY", "HTTPS_PROXY"} == (
            {"OTEL_EXPORTER_OTLP_HEADERS"} if is_reported else set()
        )


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("kind", ["version", "inspect", "promtool"])
def test_what_is_only_asked_something_is_given_no_secret(tmp_path: Path, kind: str) -> None:
    """A program on PATH, or an interpreter that a user names, runs for a second: long enough to read a token."""
    program = tmp_path / "program"
    seen = tmp_path / "seen"
    answer = "prometheus, version 2.42.0" if kind == "version" else '["0.32.0", false]'
    program.write_text(f"#!/bin/sh\nenv > {seen}\necho '{answer}'\n")
    program.chmod(0o700)
    if kind == "version":
        (tmp_path / "prometheus").symlink_to(program)
        (tmp_path / "promtool").symlink_to(program)
        find_prometheus(tmp_path, {"HOP2RAG_PROMETHEUS": str(tmp_path)})
    elif kind == "inspect":
        inspect_engine(program, "model")
    else:
        (recording, *_) = find_recordings(asset("tests/fixtures/reference-run"))
        _load(recording, program, tmp_path)
    planted = {line.split("=")[0] for line in seen.read_text().splitlines() if "canary" in line}
    assert planted <= {"HF_TOKEN", "VLLM_API_KEY", "HTTPS_PROXY"}
    assert kind == "inspect" or not planted


def test_nothing_hands_on_the_whole_environment() -> None:
    """A child added tomorrow is started like those of today: with a list."""
    sources = [path for package in ("workload", "exporter") for path in (ROOT / package).rglob("*.py")]
    found = [
        str(path) for path in sources if "**os.environ" in path.read_text() or "os.environ.copy" in path.read_text()
    ]
    assert found == []
    calls = [
        (str(path), ast.unparse(node.func), {word.arg for word in node.keywords})
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    started = [(path, words) for path, name, words in calls if name in {"subprocess.run", "subprocess.Popen"}]
    assert started
    assert [path for path, words in started if "env" not in words] == []
