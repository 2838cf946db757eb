"""From a condition to the receiver: Alertmanager's routes, and the chain of the real programs against the clock."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
import requests
import yaml

from workload.errors import MissingPartError
from workload.paths import asset, cache_dir
from workload.services.process import ChildProcess, free_port
from workload.services.prometheus_binary import IN_OWN_NAMESPACE, AlertmanagerBinary, find_alertmanager
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workload.services.prometheus_binary import PrometheusBinary

CONFIG = asset("prometheus/alertmanager.yml")
TOKEN = "a-token-of-this-test"
LIMIT_SECONDS = 15.0
RECOVERY_SECONDS = 30.0

pytestmark = pytest.mark.prometheus


class Server(http.server.ThreadingHTTPServer):
    """Says nothing when a client that is being stopped hangs up."""

    def handle_error(self, *_: object) -> None:
        """Keep the test's output clean."""


class Receiver:
    """A webhook that keeps what it is sent and when; as a target, a vLLM that the test brings down."""

    def __init__(self) -> None:
        self.messages: list[tuple[float, dict[str, Any]]] = []
        self.is_up = True
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                known = self.headers["Authorization"] == f"Bearer {TOKEN}"
                if known:
                    receiver.messages.append((time.monotonic(), json.loads(body)))
                self._answer(200 if known else 401, b"")

            def do_GET(self) -> None:
                self._answer(200 if receiver.is_up else 503, b'vllm:num_requests_running{model_name="m"} 1\n')

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def wait_for(self, name: str, status: str, seconds: float) -> tuple[float, dict[str, Any]]:
        """Return when the alert was told to have that status, and the alert."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for at, message in self.messages.copy():
                for alert in message["alerts"]:
                    if (alert["labels"]["alertname"], alert["status"]) == (name, status):
                        return at, alert
            time.sleep(0.05)
        heard = [(message["status"], message["groupLabels"]) for _, message in self.messages]
        pytest.fail(f"no {status} {name} within {seconds} s; heard {heard}")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def binary(prometheus: PrometheusBinary) -> AlertmanagerBinary:
    """The real programs, of the age of Prometheus; the message says how to have them where only root could."""
    folder = prometheus.prometheus.parent
    if "prometheus-newer" in folder.parts:  # unpacked by newer.sh
        server = folder / "prometheus-alertmanager"
        command = (*IN_OWN_NAMESPACE, str(folder.parent / "share"), str(server))
        return AlertmanagerBinary(command, folder / "amtool")
    try:
        return find_alertmanager(cache_dir())
    except MissingPartError as error:
        pytest.skip(str(error))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that runs."""
    with Receiver() as running:
        yield running


def amtool(binary: AlertmanagerBinary, *arguments: str | Path) -> str:
    """Run amtool and return what it printed; fail the test when it fails."""
    done = subprocess.run([binary.amtool, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_accepts_the_configuration(binary: AlertmanagerBinary) -> None:
    """Alertmanager refuses to start on what its own tool refuses."""
    assert "2 receivers" in amtool(binary, "check-config", CONFIG)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=Hop2RagWatchdog severity=none", "runner-heartbeat"),
        ("alertname=VllmDown severity=warning action=pause", "runner"),
        ("alertname=SamplerLate severity=warning", "runner"),
    ],
)
def test_alerts_go_where_they_belong(binary: AlertmanagerBinary, labels: str, receiver: str) -> None:
    """A heartbeat on the ordinary route comes every five minutes: too late to notice that it stopped."""
    routes = ("config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receiver}")
    assert receiver in amtool(binary, *routes, *labels.split()).split()


def test_the_commented_receiver_of_people_works(binary: AlertmanagerBinary, tmp_path: Path) -> None:
    """Whoever uncomments it at night has no time for a mistake of ours; fifteen engines must not be fifteen pages."""
    config = tmp_path / "alertmanager.yml"
    config.write_text(re.sub(r"(?m)^( *)# (- |  )", r"\1\2", CONFIG.read_text()))
    assert "3 receivers" in amtool(binary, "check-config", config)
    for labels, receiver in {
        "alertname=VllmDown severity=page instance=h:1": "people",
        "alertname=VllmDown severity=warning action=pause instance=h:1": "runner",
        "alertname=Hop2RagWatchdog severity=none": "runner-heartbeat",
    }.items():
        routes = ("config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receiver}")
        assert amtool(binary, *routes, *labels.split()).split()[0] == receiver
    route = next(route for route in yaml.safe_load(config.read_text())["route"]["routes"] if "people" in str(route))
    assert {"instance", "pod", "..."}.isdisjoint(route["group_by"])


def test_nothing_waits_and_nothing_leaves_the_host_unsigned() -> None:
    """Alertmanager's defaults, 30 s and 5 min, are for people; the token is never in a file that is committed."""
    config = yaml.safe_load(CONFIG.read_text())
    assert config["route"]["group_wait"] == "0s"
    assert config["route"]["group_interval"] == "5s"
    for receiver in config["receivers"]:
        for webhook in receiver["webhook_configs"]:
            assert webhook["url"].startswith("http://127.0.0.1:")
            assert webhook["http_config"]["authorization"].keys() == {"type", "credentials_file"}


def test_a_condition_reaches_the_receiver_in_time(
    binary: AlertmanagerBinary, prometheus: PrometheusBinary, receiver: Receiver, tmp_path: Path
) -> None:
    """A run that is steered by alerts is steered this late, at best."""
    port = free_port()
    config = yaml.safe_load(CONFIG.read_text())
    for each in config["receivers"]:
        each["webhook_configs"][0]["url"] = f"http://{receiver.address}/alerts"
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "webhook-token").write_text(TOKEN)
    argv = (
        *binary.command,
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    with (
        loopback_session() as session,
        ChildProcess(argv, tmp_path / "alertmanager.log"),
        LocalPrometheus(
            prometheus,
            tmp_path,
            session,
            port=free_port(),
            alertmanager=f"127.0.0.1:{port}",
        ) as server,
    ):
        server.targets.write(ArmLabels("r", "e", "a"), vllm=[f"http://{receiver.address}"])
        receiver.wait_for("Hop2RagWatchdog", "firing", LIMIT_SECONDS)
        while server.client.scrape_errors().get(("vllm", receiver.address)) != "":
            time.sleep(0.1)

        receiver.is_up = False
        _, alert = receiver.wait_for("VllmDown", "firing", LIMIT_SECONDS)
        assert alert["labels"].items() >= {"action": "pause", "run": "r", "experiment": "e", "arm": "a"}.items()

        receiver.is_up = True
        receiver.wait_for("VllmDown", "resolved", RECOVERY_SECONDS + LIMIT_SECONDS)


SILENCED = "suppressed"
INHIBITION = (
    # of two engines without a run one is down, the other hangs
    ("VllmDown severity=warning action=pause instance=gpu-01:8000 rack=1", "active"),
    ("VllmHung severity=warning action=pause instance=gpu-02:8000 rack=1", "active"),
    ("VllmHung severity=warning action=pause instance=gpu-01:8000 rack=1", SILENCED),
    # two engines of one run
    ("VllmDown severity=warning action=pause instance=gpu-03:8000 run=r experiment=e arm=a", "active"),
    ("VllmHung severity=warning action=pause instance=gpu-04:8000 run=r experiment=e arm=a", "active"),
    ("VllmHung severity=warning action=pause run=r experiment=e arm=a", SILENCED),
    ("LlmErrorBudgetBurn severity=warning action=pause instance=h:9500 run=r experiment=e arm=a", SILENCED),
    ("LlmErrorBudgetBurn severity=warning action=pause instance=h:9501 rack=1", "active"),
    ("VllmTtftBudgetBurn severity=warning instance=gpu-03:8000 window=6h", SILENCED),
    # a page silences its own warnings, and never what steers
    ("VllmTtftBudgetBurn severity=page window=1h instance=gpu-05:8000", "active"),
    ("VllmTtftBudgetBurn severity=warning window=6h instance=gpu-05:8000", SILENCED),
    ("VllmTtftBudgetBurn severity=warning action=capture window=1h instance=gpu-05:8000", "active"),
    ("VllmTtftBudgetBurn severity=warning window=6h instance=gpu-06:8000", "active"),
    ("DiskWritesFailing severity=warning action=stop instance=h:9090", "active"),
    ("DiskFilling severity=warning action=pause instance=h:9400 volume=results", SILENCED),
)


def test_a_cause_silences_its_own_effects_alone(binary: AlertmanagerBinary, receiver: Receiver, tmp_path: Path) -> None:
    """Labels that are absent are equal: without a run in the labels one engine that is down would silence them all."""
    url = f"http://127.0.0.1:{free_port()}"
    config = CONFIG.read_text().replace("127.0.0.1:9096", receiver.address)
    (tmp_path / "alertmanager.yml").write_text(config)
    (tmp_path / "webhook-token").write_text(TOKEN)
    argv = (
        *binary.command,
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    )
    with loopback_session() as session, ChildProcess(argv, tmp_path / "alertmanager.log"):
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not _is_ready(session, url):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for labels, _ in INHIBITION:
            amtool(binary, f"--alertmanager.url={url}", "alert", "add", *labels.split())
        wanted = sorted((" ".join(sorted(f"alertname={labels}".split())), state) for labels, state in INHIBITION)
        found: list[tuple[str, str]] = []
        while found != wanted and time.monotonic() < deadline:
            answer = session.get(f"{url}/api/v2/alerts", timeout=5).json()
            found = sorted(
                (" ".join(sorted(f"{name}={value}" for name, value in each["labels"].items())), each["status"]["state"])
                for each in answer
            )
            time.sleep(0.2)
        assert found == wanted


def _is_ready(session: requests.Session, url: str) -> bool:
    try:
        return session.get(f"{url}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False
