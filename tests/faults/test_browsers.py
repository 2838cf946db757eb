"""What a page in a browser on this host can do to the real Prometheus and the real Alertmanager: nothing."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import requests
import yaml

from workload.errors import MissingPartError
from workload.paths import cache_dir
from workload.services.alertmanager import LocalAlertmanager
from workload.services.process import free_port
from workload.services.prometheus import PrometheusError
from workload.services.prometheus_binary import find_alertmanager, find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session, reload_by_signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.prometheus, pytest.mark.timeout(120)]

PAGE = {"Origin": "https://evil.example"}
ARRIVE_SECONDS = 60.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalPrometheus, LocalAlertmanager]]:
    """Return both, up and talking to each other."""
    folder = tmp_path_factory.mktemp("cache")
    try:
        binary = find_alertmanager(cache_dir())
    except MissingPartError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        webhook = f"http://127.0.0.1:{free_port()}/alerts"
        alertmanager = LocalAlertmanager(binary, folder, loopback_session(), port=free_port(), webhook=webhook)
        stack.enter_context(alertmanager)
        prometheus = LocalPrometheus(
            find_prometheus(cache_dir()),
            folder,
            loopback_session(),
            port=free_port(),
            alertmanager=alertmanager.address,
        )
        stack.enter_context(prometheus)
        yield prometheus, alertmanager


def allowed(response: requests.Response) -> list[str]:
    """Return the origins whose pages may read an answer: without that header a browser shows it to none."""
    return [value for name, value in response.headers.items() if name.lower() == "access-control-allow-origin"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_row_24_a_page_reads_nothing_from_prometheus(
    pair: tuple[LocalPrometheus, LocalAlertmanager], origin: str
) -> None:
    """By default it says to every page that it may."""
    url, headers = pair[0].url, {"Origin": origin, "Access-Control-Request-Method": "GET"}
    for path in ("/api/v1/query?query=up", "/api/v1/alerts", "/api/v1/status/config", "/metrics"):
        assert allowed(requests.get(url + path, headers=headers, timeout=60)) == []
        assert allowed(requests.options(url + path, headers=headers, timeout=60)) == []


@pytest.mark.parametrize("path", ["/-/quit", "/-/reload"])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_row_24_a_page_neither_stops_nor_reloads_prometheus(
    pair: tuple[LocalPrometheus, LocalAlertmanager], path: str, method: str
) -> None:
    """Such a request needs no leave of the server's: the browser sends it, and only hides the answer."""
    before = pair[0].client.last_reload()
    assert requests.request(method, pair[0].url + path, headers=PAGE, timeout=60).status_code in {403, 405}
    assert pair[0].client.ready()
    assert pair[0].client.last_reload() == before


@pytest.mark.parametrize("path", ["/api/v2/alerts", "/api/v2/silences", "/api/v2/status", "/-/reload", "/metrics", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_row_24_without_the_password_alertmanager_does_nothing(
    pair: tuple[LocalPrometheus, LocalAlertmanager], path: str, method: str
) -> None:
    """A page ended a soak within a second by an alert that it posted; a silence would keep one from it."""
    url = pair[1].client.url + path
    reported = [{"labels": {"alertname": "DiskWritesFailing", "action": "stop"}}]
    for auth in (None, ("hop2rag", ""), ("hop2rag", "guess"), ("admin", "admin")):
        response = requests.request(method, url, json=reported, headers=PAGE, auth=auth, timeout=60)
        assert response.status_code == 401
        assert allowed(response) == []


def test_prometheus_and_we_have_the_password(pair: tuple[LocalPrometheus, LocalAlertmanager]) -> None:
    """The heartbeat comes through: what always fires arrives where it is to go."""
    deadline = time.monotonic() + ARRIVE_SECONDS
    while not (found := pair[1].client.firing()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {alert["labels"]["alertname"] for alert in found} >= {"Hop2RagWatchdog"}
    assert pair[1].client.ready()
    pair[1].client.reload()
    assert {labels["alertname"] for labels in pair[0].client.firing()} >= {"Hop2RagWatchdog"}


def test_a_reload_by_signal_takes_what_is_right_and_refuses_what_is_not(
    pair: tuple[LocalPrometheus, LocalAlertmanager],
) -> None:
    """A run that goes on with the configuration of another would record at another interval than it says."""
    prometheus = pair[0]
    pid = prometheus.child.pid if prometheus.child else 0
    config: Path = prometheus._config
    before = config.read_text()
    try:
        config.write_text(yaml.safe_dump({**yaml.safe_load(before), "global": {"scrape_interval": "7s"}}))
        reload_by_signal(pid, prometheus.client)
        reported = requests.get(f"{prometheus.url}/api/v1/status/config", timeout=60).json()["data"]["yaml"]
        assert "scrape_interval: 7s" in reported
        config.write_text("nonsense: true\n")
        with pytest.raises(PrometheusError, match="refused"):
            reload_by_signal(pid, prometheus.client)
        assert prometheus.client.ready()
    finally:
        config.write_text(before)
        reload_by_signal(pid, prometheus.client)
