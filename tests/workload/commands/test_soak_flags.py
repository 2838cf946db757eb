"""How the soak's command turns its flags and variables into settings and places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workload.cli import run_command_line
from workload.errors import UsageError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what a soak is asked for, in the order of its parameters; nothing runs."""
    asked: list[Any] = []

    def run_soak(*given: Any, **named: Any) -> None:
        asked.extend([*given, named])
        raise UsageError("Enough.", "Nothing is run here.")

    monkeypatch.setattr("workload.soak.run.run_soak", run_soak)
    return asked


def test_each_port_is_that_of_its_server(asked: list[Any]) -> None:
    """Given by place, they started Alertmanager at the port where its own webhook has to listen."""
    assert (
        run_command_line(["soak", "--duration", "1m", "--alertmanager-port", "19093", "--webhook-port", "19096"]) == 2
    )
    ports = asked[2]
    assert (ports.alertmanager, ports.webhook, ports.prometheus) == (19093, 19096, 9090)


def test_services_that_run_already_keep_their_intervals(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen in a container: "--sample-interval is for services that a run starts", a flag that nobody had given."""
    assert run_command_line(["soak", "--duration", "1m"]) == 2
    assert (asked[0].load.vllm_interval_ms, asked[0].load.gpu_interval_ms) == (1000, 1000)
    monkeypatch.setenv("HOP2RAG_PROMETHEUS_URL", "http://prometheus:9090")
    monkeypatch.setenv("HOP2RAG_TARGETS", "/targets")
    monkeypatch.setenv("HOP2RAG_EXPORTER", "exporter:9400")
    asked.clear()
    assert run_command_line(["soak", "--duration", "1m", "--webhook-token-file", "/token"]) == 2
    assert (asked[0].load.vllm_interval_ms, asked[0].load.gpu_interval_ms) == (100, 10)
    assert asked[-1] == {"token_file": Path("/token")}
