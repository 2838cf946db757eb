"""What an address is: an engine, its ranks, a router's engines, or a front that hides them."""

from __future__ import annotations

import json

import pytest

from tests.stubs.fleet import FOLDER, StubFleet
from workload.errors import DependencyDownError, UsageError
from workload.fleet.discovery import discover
from workload.fleet.event_source import EventSource
from workload.fleet.events import EngineId

FRONT, E0, E1 = "http://127.0.0.1:3001", "http://127.0.0.1:8101", "http://127.0.0.1:8102"
SOURCES = json.loads((FOLDER / "kv_event_sources.json").read_text())


@pytest.fixture
def fleet() -> StubFleet:
    """Start with two servers."""
    fleet = StubFleet()
    fleet.server(E0, "two_e0.prom", SOURCES)
    fleet.server(E1, "two_e1.prom")
    return fleet


def test_recognises_a_single_server(fleet: StubFleet) -> None:
    """A pool of 49 blocks of 32 tokens, and the sources of its events."""
    found = discover(E0, fleet.open)
    (rank,) = found.engines
    assert (found.kind, rank.engine, rank.block_size, rank.blocks) == ("server", EngineId(E0, 0), 32, 49)
    assert found.sources == (EventSource(EngineId(E0, 0), "tcp://127.0.0.1:5557", "tcp://127.0.0.1:5567"),)
    assert found.sentence() == f"{E0} is one vLLM server."


def test_gives_each_rank_its_own_blocks() -> None:
    """`num_gpu_blocks` is the sum over ranks, on each of them: 2,912; tokens and bytes are one rank's."""
    fleet = StubFleet()
    fleet.server(E0, "dp2_after.prom")
    found = discover(E0, fleet.open)
    assert found.kind == "ranks"
    assert [(rank.engine.rank, rank.blocks, rank.pool_bytes) for rank in found.engines] == [
        (0, 1456, 1 << 30),
        (1, 1456, 1 << 30),
    ]
    assert found.sentence() == f"{E0} is one vLLM server with 2 data-parallel ranks."


@pytest.mark.parametrize("page", ["/workers", "/list_workers"])
def test_finds_the_engines_of_a_router(fleet: StubFleet, page: str) -> None:
    """The router's own pages name its servers; its /metrics is that of some server, and is never scraped."""
    fleet.router(FRONT, E0, E1, page=page)
    found = discover(FRONT, fleet.open)
    assert (found.kind, found.servers) == ("router", (E0, E1))
    assert f"{FRONT}/metrics" not in fleet.asked
    assert found.sentence() == f"{FRONT} is a router in front of 2 engines: {E0}, {E1}."


def test_a_router_over_ranks_names_a_server_twice() -> None:
    """With --intra-node-data-parallel-size it calls the ranks of one server HOST:PORT@0 and @1."""
    fleet = StubFleet()
    fleet.server(E0, "dp2_after.prom")
    fleet.router(FRONT, f"{E0}@0", f"{E0}@1")
    found = discover(FRONT, fleet.open)
    assert [rank.engine for rank in found.engines] == [EngineId(E0, 0), EngineId(E0, 1)]


def test_refuses_a_router_whose_server_cannot_be_reached(fleet: StubFleet) -> None:
    """Half a fleet would be measured in silence."""
    fleet.router(FRONT, E0, "http://127.0.0.1:8103")
    with pytest.raises(DependencyDownError, match=r"sends calls to http://127.0.0.1:8103, which cannot be reached"):
        discover(FRONT, fleet.open)


def test_refuses_a_router_without_servers(fleet: StubFleet) -> None:
    """It starts before its servers, and then answers every call with an error."""
    fleet.router(FRONT)
    with pytest.raises(DependencyDownError, match="has no servers"):
        discover(FRONT, fleet.open)


def test_refuses_a_front_that_hides_its_servers(fleet: StubFleet) -> None:
    """Each scrape is another server's: every fall of a counter would look like a restart, every rate is fiction."""
    fleet.balancer(FRONT, "two_e0.prom", "two_e1.prom")
    with pytest.raises(UsageError, match="passes pages on to several servers and names none"):
        discover(FRONT, fleet.open)


@pytest.mark.parametrize("text", ["up 1\n", "", "<html>"])
def test_refuses_a_front_without_metrics_of_vllm(fleet: StubFleet, text: str) -> None:
    """A gateway has a metrics page of its own, or a login."""
    fleet.page(FRONT, "/metrics", text)
    with pytest.raises(UsageError, match=r"vLLM"):
        discover(FRONT, fleet.open)


def test_an_address_where_nothing_listens_is_down() -> None:
    """The message comes within the limit of one request."""
    with pytest.raises(DependencyDownError, match="does not answer within 10 s"):
        discover(E0, StubFleet().open)


@pytest.mark.parametrize("text", ['{"workers": 3}', '{"workers": [1]}', '{"urls": "x"}', "[]", "<html>", "null"])
def test_other_pages_of_that_name_make_no_router(fleet: StubFleet, text: str) -> None:
    """A gateway may answer every path with its own page."""
    fleet.page(E0, "/workers", text)
    fleet.page(E0, "/list_workers", text)
    assert discover(E0, fleet.open).kind == "server"


def test_a_router_cannot_send_us_to_a_metadata_service(fleet: StubFleet) -> None:
    """The addresses come from a server, so they are checked as a user's are."""
    fleet.router(FRONT, "http://169.254.169.254")
    with pytest.raises(UsageError, match="link-local"):
        discover(FRONT, fleet.open)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("tcp://*:5557", "tcp://127.0.0.1:5557"),
        ("tcp://0.0.0.0:5557", "tcp://127.0.0.1:5557"),
        ("tcp://[::]:5557", "tcp://127.0.0.1:5557"),
        ("tcp://[::ffff:127.0.0.1]:5557", "tcp://127.0.0.1:5557"),
        ("tcp://localhost:5557", "tcp://localhost:5557"),
        ("tcp://10.0.0.9:5557", None),
        ("ipc:///run/events", None),
        ("tcp://*:port", None),
        (7, None),
        (None, None),
    ],
)
def test_connects_only_to_the_server_itself(fleet: StubFleet, endpoint: object, expected: str | None) -> None:
    """An engine may publish to another host; what a page names is no address to connect to without a look."""
    fleet.server(E0, "two_e0.prom", {"0": SOURCES["0"] | {"endpoint": endpoint}})
    found = [source.endpoint for source in discover(E0, fleet.open).sources]
    assert found == ([expected] if expected else [])


@pytest.mark.parametrize("page", ["[]", '{"0": 3}', '{"0": {"enable_kv_cache_events": false}}', "<html>", "{}"])
def test_events_that_are_off_or_elsewhere_have_no_source(fleet: StubFleet, page: str) -> None:
    """The page is new in 0.31, and anything may stand there before."""
    fleet.page(E0, "/kv_event_sources", page)
    assert discover(E0, fleet.open).sources == ()


def test_a_front_that_hides_its_servers_is_a_router_once_they_are_named(fleet: StubFleet) -> None:
    """Only calls go to it then: no page of its own is asked for."""
    fleet.balancer(FRONT, "two_e0.prom", "two_e1.prom")
    found = discover(FRONT, fleet.open, [E0, E1])
    assert (found.kind, found.servers) == ("router", (E0, E1))
    assert not [page for page in fleet.asked if page.startswith(FRONT)]


def test_a_server_that_reports_no_facts_is_one_engine(fleet: StubFleet) -> None:
    """The first releases have no `cache_config_info`."""
    fleet.page(E0, "/metrics", "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0\n")
    (rank,) = discover(E0, fleet.open).engines
    assert (rank.engine, rank.block_size, rank.blocks) == (EngineId(E0, 0), None, None)
