"""Rows 7, 10 and 13: whatever a server does, whoever asks it has a one-line error in bounded time and memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tests.stubs.services import ALERTMANAGER, FAULTS, GRAFANA, PROMETHEUS, StubService
from tests.stubs.vllm import StubVllm
from workload.doctor.servers import examine_grafana, examine_prometheus, examine_vllm
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.probe import ask_canary
from workload.errors import DependencyDownError
from workload.services import limits
from workload.services.prometheus import PrometheusClient
from workload.services.prometheus_server import loopback_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stubs.services import Fault

VLLM = {"/version": {"version": "0.32.0"}, "/v1/models": {"data": [{"id": "m"}]}, "/metrics": "up 1\n"}
CANARY = {"/v1/completions": {"choices": [{"index": 0, "text": "!", "finish_reason": "length"}]}}
TIMEOUT_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale the limits down: 64 MiB and a minute would make these tests slow, and prove no more."""
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 4 * 2**20)
    monkeypatch.setattr(limits, "MAX_ANSWER_SECONDS", 0.5)


@pytest.fixture
def prometheus() -> Iterator[StubService]:
    """A stub of Prometheus."""
    with StubService(PROMETHEUS) as server:
        yield server


def bounded(work: Callable[[], object]) -> None:
    """Do some work and check the peak of memory in use; the limits are there so that it ends at all."""
    tracemalloc.start()
    try:
        work()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 32 * 2**20


@pytest.mark.parametrize("fault", FAULTS)
def test_row_13_a_broken_prometheus_is_an_error_in_one_line(prometheus: StubService, fault: Fault) -> None:
    """A flood must not fill our memory, nor a drip block a run for ever; each ends as a dependency that is down."""
    with loopback_session() as session:
        client = PrometheusClient(prometheus.url, session, timeout_s=TIMEOUT_SECONDS)
        assert client.query("up")[0].value == 1.0
        prometheus.fault = fault

        def ask() -> None:
            with pytest.raises(DependencyDownError) as raised:
                client.query("up")
            assert "\n" not in str(raised.value)

        bounded(ask)
        prometheus.fault = None
        assert client.query("up")[0].value == 1.0


def test_row_13_a_dead_prometheus_is_found_again(prometheus: StubService) -> None:
    """A client that had a connection open when the server died must open another when it is back."""
    with loopback_session() as session:
        client = PrometheusClient(prometheus.url, session, timeout_s=TIMEOUT_SECONDS)
        assert client.ready()
        prometheus.die()
        assert not client.ready()
        with pytest.raises(DependencyDownError, match="does not answer"):
            client.query("up")
        prometheus.live()
        assert client.query("up")[0].value == 1.0


@pytest.mark.parametrize("fault", FAULTS)
def test_row_07_a_broken_engine_is_an_error_in_one_line(fault: Fault) -> None:
    """Facts are read before a run, canaries during one; a server that floods or drips must block neither."""
    with StubService({**VLLM, **CANARY}) as server:
        ask_canary(server.url, "m", TIMEOUT_SECONDS)
        server.fault = fault
        for ask in (lambda: ask_canary(server.url, "m", TIMEOUT_SECONDS), lambda: facts_of(server)):

            def refused(ask: Callable[[], object] = ask) -> None:
                with pytest.raises(DependencyDownError) as raised:
                    ask()
                assert "\n" not in str(raised.value)

            bounded(refused)


def facts_of(server: StubService) -> object:
    """Read a server's facts."""
    with open_client(server.url, TIMEOUT_SECONDS) as client:
        return read_facts(client)


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_row_13_the_doctor_survives_every_patient(prometheus: StubService, fault: Fault | None) -> None:
    """It is asked when something is broken: each server that is, is a finding with a remedy, never a traceback."""
    with StubVllm() as vllm, StubService(GRAFANA) as grafana, loopback_session() as session:
        prometheus.fault = grafana.fault = fault
        client = PrometheusClient(prometheus.url, session, timeout_s=TIMEOUT_SECONDS)

        def examine() -> None:
            findings = list(examine_prometheus(client))
            with open_client(grafana.url, TIMEOUT_SECONDS) as http:
                findings += examine_grafana(http)
            with open_client(vllm.url, TIMEOUT_SECONDS) as http:
                findings += examine_vllm(http)
            assert all(finding.says and "\n" not in finding.says for finding in findings)
            ill = {finding.part for finding in findings if finding.level == "fault" and finding.remedy}
            assert fault is None or {"Prometheus", "Grafana"} <= ill

        bounded(examine)


def test_the_stubs_have_all_parts() -> None:
    """A stub without a path answers 404, and a test of a fault would pass for the wrong reason."""
    for answers in (PROMETHEUS, ALERTMANAGER, GRAFANA):
        with StubService(answers) as server, open_client(server.url) as client:
            assert all(client.get(path).status_code == 200 for path in answers)
