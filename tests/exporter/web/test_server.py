"""The metrics server: pages, content negotiation, errors a user can act on."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric

from exporter.errors import UsageError
from exporter.web.pages import negotiate
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry with one gauge."""
    registry = CollectorRegistry()
    Gauge("answer", "What it is.", registry=registry).set(42)
    return registry


@pytest.fixture
def url(registry: CollectorRegistry) -> Iterator[str]:
    """Serve the registry and a fixed timeline."""
    with MetricsServer(registry, timeline=lambda: b"t 1 1000\n") as server:
        yield f"http://{server.start()}"


def test_metrics_and_timeline_are_served(url: str) -> None:
    """The two pages Prometheus scrapes."""
    metrics = httpx.get(f"{url}/metrics")
    assert "answer 42.0" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    timeline = httpx.get(f"{url}/metrics/timeline")
    assert timeline.text == "t 1 1000\n"
    assert timeline.headers["content-type"].startswith("text/plain; version=0.0.4")


PROMETHEUS_ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "kind", "end"),
    [
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0", "# EOF\n"),
        (PROMETHEUS_ACCEPT, "text/plain; version=0.0.4", "answer 42.0\n"),
        ("text/html,*/*", "text/plain; version=0.0.4", "answer 42.0\n"),
        ("application/openmetrics-text;version=x.y", "application/openmetrics-text; version=1.0.0", "# EOF\n"),
        ("", "text/plain; version=0.0.4", "answer 42.0\n"),
    ],
)
def test_the_format_follows_the_request(url: str, accept: str, kind: str, end: str) -> None:
    """The type must match the text, whoever asks; a header without sense must not become a 500."""
    answer = httpx.get(f"{url}/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.text.endswith(end)


def test_versions_without_end_are_one_rendering() -> None:
    """Fault row 4: a version that is echoed makes a rendering of its own for each client that invents one."""
    asked = [
        f"application/openmetrics-text;version={number}.0.0;escaping=e{number};q=0.{number}" for number in range(50)
    ]
    (openmetrics,) = {negotiate(accept)[1] for accept in asked}
    assert openmetrics.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    odd = ("*/*", "text/plain;version=9", "", "\xff;;=,", "text/plain;version=0.0.4;q=nan")
    assert {negotiate(accept)[1] for accept in odd} == {"text/plain; version=0.0.4; charset=utf-8"}


def test_a_collector_that_breaks_in_an_application_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback for each scrape of a weekend fills the disk, and says it 200,000 times."""

    class Broken:
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("x")

    registry = CollectorRegistry()
    with MetricsServer(registry) as server:
        url = f"http://{server.start()}/metrics"
        registry.register(Broken())  # type: ignore[arg-type]
        assert [httpx.get(url).status_code for _ in range(3)] == [500] * 3
    assert len(caplog.records) == 1


def test_compression_follows_the_request(url: str) -> None:
    """Prometheus asks for gzip; a person with curl does not."""
    assert httpx.get(f"{url}/metrics").headers["content-encoding"] == "gzip"
    assert "content-encoding" not in httpx.get(f"{url}/metrics", headers={"Accept-Encoding": "identity"}).headers


def test_landing_page_links_every_page(url: str) -> None:
    """A person who opens the address in a browser finds the metrics."""
    page = httpx.get(url).text
    for path in ("/metrics", "/metrics/timeline", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in page
        assert httpx.get(url + path).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(url: str, method: str) -> None:
    """Fault row 4: nothing but reading is offered."""
    answer = httpx.request(method, f"{url}/metrics")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


def test_without_a_timeline_its_page_is_missing(registry: CollectorRegistry) -> None:
    """An empty page would read as "nothing happened"."""
    with MetricsServer(registry) as server:
        address = server.start()
        assert httpx.get(f"http://{address}/metrics/timeline").status_code == 404
        assert "timeline" not in httpx.get(f"http://{address}/").text


def test_not_ready_is_a_503(registry: CollectorRegistry) -> None:
    """An orchestrator must be able to wait for the first sample."""
    with MetricsServer(registry, ready=lambda: False) as server:
        address = server.start()
        assert httpx.get(f"http://{address}/-/ready").status_code == 503
        assert httpx.get(f"http://{address}/-/healthy").status_code == 200


def test_an_address_in_use_names_the_flag(registry: CollectorRegistry) -> None:
    """The user must learn which address, and which flag changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = MetricsServer(registry, port=port, flag="--metrics-port")
        with pytest.raises(UsageError) as caught:
            server.start()
        server.close()
    assert str(caught.value) == f"Address 127.0.0.1:{port} is in use. Pick another with --metrics-port."
    assert caught.value.exit_code == 2


def test_an_address_of_no_one_names_the_flag(registry: CollectorRegistry) -> None:
    """A mistyped host is the user's to mend, without a traceback."""
    server = MetricsServer(registry, host="192.0.2.1")
    with pytest.raises(UsageError, match=r"192\.0\.2\.1:0 cannot be used: .+ Pick another with --web\.listen-address"):
        server.start()
    server.close()


def test_close_ends_the_thread_and_frees_the_port(registry: CollectorRegistry) -> None:
    """A run starts and stops servers; none may linger, even with a client connected."""
    before = threading.active_count()
    server = MetricsServer(registry)
    host, port = server.start().split(":")
    with httpx.Client() as client:
        client.get(f"http://{host}:{port}/metrics")
        server.close()
    assert threading.active_count() <= before + 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_clients_that_ask_together_share_one_rendering(wait_until: Callable[..., None]) -> None:
    """Fault row 4: a crowd of scrapers must cost what one costs."""

    class SlowCollector:
        collected = 0
        go = threading.Event()

        def collect(self) -> Iterator[Metric]:
            self.collected += 1
            self.go.wait()
            yield Metric("slow", "Slow.", "gauge")

    registry, collector = CollectorRegistry(), SlowCollector()
    collector.go.set()
    registry.register(collector)
    collector.collected = 0
    collector.go.clear()
    with MetricsServer(registry) as server:
        url = f"http://{server.start()}/metrics"
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda: codes.append(httpx.get(url, timeout=60).status_code)) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(server._server.server_state.tasks) == 10)
        collector.go.set()
        for thread in threads:
            thread.join()
    assert codes == [200] * 10
    assert collector.collected == 1
