"""An engine behind a gateway, over TLS, under a path: everybody who talks to it finds it, Prometheus too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.stubs.services import PROMETHEUS, StubService
from tests.stubs.tls import own_authority
from tests.stubs.vllm import StubVllm
from workload.agent.llm import llm_client
from workload.engine.attach import AttachLauncher
from workload.engine.profile import PROFILES
from workload.errors import DependencyDownError, UsageError
from workload.paths import cache_dir
from workload.services import limits
from workload.services.process import free_port
from workload.services.prometheus import PrometheusClient, PrometheusError
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.services.scrape_registration import wait_for_scrapes
from workload.services.targets import ArmLabels, instance_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ArmLabels("r1", "latency", "base")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Return where the gateway's authority and key lie."""
    return tmp_path


@pytest.fixture
def gateway(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubVllm]:
    """Return an engine at https://127.0.0.1:PORT/team-a, and have its authority trusted."""
    context, certificate = own_authority(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    stub = StubVllm()
    stub.tls, stub.path = context, "/team-a"
    with stub:
        yield stub


def attach(stub: StubVllm) -> AttachLauncher:
    """Return the launcher for an endpoint as a user pastes it."""
    return AttachLauncher(f"{stub.endpoint}/v1/", Console(quiet=True))


async def test_row_27_a_prefix_over_tls_is_reached_by_all_clients(gateway: StubVllm) -> None:
    """The facts, the canary and the agent have clients of their own, each with its own way to trust and to join."""
    with attach(gateway).start(PROFILES["base"]) as engine:
        assert engine.endpoint == gateway.endpoint
    async with llm_client(engine.endpoint, 5.0) as client:
        assert (await client.models.list()).data[0].id == "stub"
    assert all(path.startswith("/team-a/") for path, _ in gateway.heard)


def test_a_certificate_that_no_client_trusts_is_named(gateway: StubVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word ConnectError alone sends people to the firewall."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        attach(gateway).start(PROFILES["base"]).__enter__()


def test_prometheus_over_tls_is_asked_within_the_same_bounds(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prometheus behind TLS had another trust, and answers without limits."""
    context, certificate = own_authority(authority)
    stub = StubService(PROMETHEUS)
    stub.tls = context
    with stub, loopback_session() as session:
        assert not PrometheusClient(stub.url, session).ready()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    again = StubService(PROMETHEUS)
    again.tls = context
    with again, loopback_session() as session:
        client = PrometheusClient(again.url, session)
        assert client.ready()
        monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 10)
        with pytest.raises(PrometheusError, match="AnswerTooLong"):
            client.query("up")


def test_a_forgotten_prefix_is_named(gateway: StubVllm) -> None:
    """The gateway answers 404, and the user must learn that a path is missing, not that vLLM is ill."""
    with pytest.raises(DependencyDownError, match=r"HTTP 404 at /v1/models.*gateway"):
        AttachLauncher(gateway.url, Console(quiet=True)).start(PROFILES["base"]).__enter__()


@pytest.mark.prometheus
def test_row_27_prometheus_scrapes_it(gateway: StubVllm, tmp_path: Path) -> None:
    """The labels are a contract with Prometheus; only Prometheus can show that they work."""
    ours = LocalPrometheus(find_prometheus(cache_dir()), tmp_path, loopback_session(), port=free_port())
    with ours:
        ours.targets.write(LABELS, vllm=[gateway.endpoint])
        scraped = {job: [instance_of(gateway.endpoint)] for job in ("vllm", "vllm-fast")}
        assert wait_for_scrapes(ours.client, LABELS, scraped, time.time()) > 0


@pytest.mark.parametrize("name", ["base-b", "lora-a"])
def test_row_27_a_served_model_is_chosen_by_name(name: str) -> None:
    """Several names of one model, and adapters too: the first of the list is not always the one that is meant."""
    with StubVllm() as stub:
        stub.models = [
            {"id": "base", "root": "/models/base", "parent": None, "max_model_len": 8192},
            {"id": "base-b", "root": "/models/base", "parent": None, "max_model_len": 8192},
            {"id": "lora-a", "root": "/adapters/a", "parent": "base", "max_model_len": None},
        ]
        with AttachLauncher(stub.url, Console(quiet=True), served_model=name).start(PROFILES["base"]) as engine:
            facts = engine.facts
        assert (facts.model, facts.model_path, facts.max_model_len) == (name, "/models/base", 8192)
        assert (facts.adapter_of, facts.adapter) == (("base", name) if name == "lora-a" else (None, ""))
        with pytest.raises(UsageError, match=r"no model 'lora-b'.*base, base-b, lora-a"):
            AttachLauncher(stub.url, Console(quiet=True), served_model="lora-b").start(PROFILES["base"]).__enter__()
