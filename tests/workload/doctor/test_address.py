"""The doctor says in words what vLLM's address is."""

from __future__ import annotations

import pytest

from tests.stubs.fleet import StubFleet
from workload.doctor.address import examine_address

FRONT, E0, E1 = "http://127.0.0.1:3001", "http://127.0.0.1:8101", "http://127.0.0.1:8102"


@pytest.fixture
def fleet() -> StubFleet:
    """Start with two servers."""
    fleet = StubFleet()
    fleet.server(E0, "two_e0.prom")
    fleet.server(E1, "two_e1.prom")
    return fleet


def test_names_a_single_server(fleet: StubFleet) -> None:
    """The usual case is one line."""
    (finding,) = examine_address(E0, fleet.open)
    assert (finding.level, finding.says) == ("ok", f"{E0} is one vLLM server.")


def test_names_a_router_and_its_engines(fleet: StubFleet) -> None:
    """What the doctor then finds about metrics is true of one engine only."""
    fleet.router(FRONT, E0, E1)
    (finding,) = examine_address(FRONT, fleet.open)
    assert finding.level == "fault"
    assert finding.says == f"{FRONT} is a router in front of 2 engines: {E0}, {E1}."
    assert E0 in finding.remedy


def test_names_a_front_that_hides_its_servers(fleet: StubFleet) -> None:
    """A balancer names nobody, so there is nothing to examine instead."""
    fleet.balancer(FRONT, "two_e0.prom", "two_e1.prom")
    (finding,) = examine_address(FRONT, fleet.open)
    assert finding.level == "fault"
    assert "several servers and names none" in finding.says


def test_names_a_router_whose_engine_is_down(fleet: StubFleet) -> None:
    """The router answers, so no other finding would say it."""
    fleet.router(FRONT, E0, "http://127.0.0.1:8103")
    (finding,) = examine_address(FRONT, fleet.open)
    assert "http://127.0.0.1:8103, which cannot be reached" in finding.says


def test_leaves_a_server_that_is_down_to_the_other_findings() -> None:
    """One fault is one line."""
    assert examine_address(E0, StubFleet().open) == []
