"""Ports that stay free until their server listens."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from workload.services import process
from workload.services.process import PORTS, free_port

if TYPE_CHECKING:
    import pytest


def test_no_outgoing_connection_gets_one() -> None:
    """Linux chooses among 32768 to 60999 unless it is configured otherwise."""
    assert free_port() in PORTS
    assert 1024 < min(PORTS) < max(PORTS) < 32768


def test_one_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may listen there already."""
    taken = free_port()
    free = free_port()
    monkeypatch.setattr(process, "_ORDER", iter([taken, free]))
    with socket.create_server(("127.0.0.1", taken)):
        assert free_port() == free


def test_none_is_chosen_twice() -> None:
    """A run chooses several before the first of them is used."""
    chosen = [free_port() for _ in range(500)]
    assert len(set(chosen)) == len(chosen)
