"""How the soak's command turns its flags and variables into settings and places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.cli import run_command_line
from workload.errors import UsageError

if TYPE_CHECKING:
    import pytest


def test_each_port_is_that_of_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given by place, they started Alertmanager at the port where its own webhook has to listen."""
    asked: list[Any] = []

    def run_soak(*given: Any) -> None:
        asked.append(given[2])
        raise UsageError("Enough.", "Nothing is run here.")

    monkeypatch.setattr("workload.soak.run.run_soak", run_soak)
    assert (
        run_command_line(["soak", "--duration", "1m", "--alertmanager-port", "19093", "--webhook-port", "19096"]) == 2
    )
    (ports,) = asked
    assert (ports.alertmanager, ports.webhook, ports.prometheus) == (19093, 19096, 9090)
