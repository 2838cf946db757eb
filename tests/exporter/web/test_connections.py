"""Fault row 4: a hostile client gets bounded work and memory, and everyone else gets their scrape."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client import CollectorRegistry, Gauge

from exporter.web.connections import SAID_SECONDS, Limits, Seldom
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEVER = 3600  # longer than any test: what ends within one was not ended by this limit
LIMITS = Limits(connections=16, request_seconds=0.6, keep_alive_seconds=2)
SHORT_REQUESTS = Limits(connections=16, request_seconds=0.3, keep_alive_seconds=NEVER)
SHORT_IDLENESS = Limits(connections=16, request_seconds=NEVER, keep_alive_seconds=1)
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def limits() -> Limits:
    """Return small limits."""
    return LIMITS


@pytest.fixture
def port(limits: Limits) -> Iterator[int]:
    """Serve a registry of 200 series within limits."""
    registry = CollectorRegistry()
    gauge = Gauge("answer", "What it is.", ["number"], registry=registry)
    for number in range(200):
        gauge.labels(number).set(number)
    with MetricsServer(registry, limits=limits) as server:
        yield int(server.start().rpartition(":")[2])


def scrape(port: int) -> int:
    """Return the status of one scrape."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def read_to_the_end(client: socket.socket) -> bytes:
    """Return what the server sends until it closes this connection."""
    client.settimeout(60)
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def is_cut(client: socket.socket) -> bool:
    """Return whether the server has dropped this connection, without reading what it sent."""
    try:
        client.sendall(b"x")
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


@pytest.mark.parametrize("limits", [SHORT_REQUESTS])
def test_a_slow_header_is_cut_off(port: int) -> None:
    """A client that sends one byte a second must not keep a connection forever, as uvicorn alone would allow."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert not read_to_the_end(client)


@pytest.mark.parametrize("limits", [SHORT_REQUESTS])
@pytest.mark.parametrize("is_early", [True, False])
def test_a_slow_header_after_a_first_request_is_cut_off_too(port: int, is_early: bool) -> None:
    """The second request on a kept connection has the time of the first, also where it begins before its answer."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        client.sendall(GET + b"GET /metr" if is_early else GET)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        if not is_early:
            client.sendall(b"GET /metr")
        read_to_the_end(client)


@pytest.mark.parametrize("limits", [SHORT_IDLENESS])
def test_an_idle_connection_ends(port: int) -> None:
    """Kept connections are a courtesy with an end."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(GET)
        assert read_to_the_end(client).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("limits", [SHORT_REQUESTS])
def test_a_client_that_never_reads_is_dropped(port: int, wait_until: Callable[..., None]) -> None:
    """Responses that no client reads must not pile up in memory."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(GET * 200)
        wait_until(lambda: is_cut(client))


def test_idle_clients_cannot_lock_out_a_scrape(port: int) -> None:
    """Sixteen silent connections would fill every place; the idlest makes room."""
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    try:
        assert scrape(port) == 200
    finally:
        for client in crowd:
            client.close()


def test_malformed_requests_are_refused_and_not_logged(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Junk costs a 400, and a log line each would fill the disk instead."""
    for junk in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"A" * 70_000, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 40_000):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(junk)
            client.settimeout(60)
            try:
                assert client.recv(65536).startswith(b"HTTP/1.1 400")
            except ConnectionResetError:
                continue
    assert not caplog.records
    assert scrape(port) == 200


def test_an_error_that_a_client_can_cause_is_said_seldom() -> None:
    """A request with rubbish behind it breaks its own answer: a traceback for each fills the disk."""
    now = [0.0]
    seldom = Seldom(lambda: now[0])

    def passes(error: Exception) -> bool:
        reported = (type(error), error, None)
        return seldom.filter(
            logging.LogRecord("x", logging.ERROR, "x", 1, "Exception in ASGI application", (), reported)
        )

    assert [passes(ValueError(str(number))) for number in range(1000)] == [True] + [False] * 999
    assert passes(KeyError("another kind"))
    now[0] += SAID_SECONDS
    assert passes(ValueError("again"))


async def test_row_04_a_flood_is_bounded_and_scrapes_go_on(port: int) -> None:
    """Fault row 4: 500 connections at once, half of them slow; a scrape is answered meanwhile."""
    memory_before = psutil.Process().memory_info().rss
    statuses: list[bytes] = []

    async def attack(number: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nX: " if number % 2 else GET)
            statuses.append((await asyncio.wait_for(reader.read(12), 60))[9:12])
            writer.close()
        except OSError:
            statuses.append(b"cut")

    flood = asyncio.gather(*(attack(number) for number in range(500)))
    await asyncio.sleep(0.05)
    assert await asyncio.to_thread(scrape, port) in {200, 503}
    await flood
    assert set(statuses) <= {b"200", b"503", b"", b"cut"}
    assert await asyncio.to_thread(scrape, port) == 200
    assert psutil.Process().memory_info().rss - memory_before < 100 * 1024**2


def test_nothing_leaks_over_1000_scrapes(port: int, wait_until: Callable[..., None]) -> None:
    """An exporter is restarted once a year: a descriptor lost per hundred scrapes kills it in a day."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only the number counts

    scrape(port)
    threads, files = threading.active_count(), descriptors()
    for _ in range(10):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for number in range(100):
            connection.request("GET", "/-/healthy" if number % 10 else "/metrics")
            connection.getresponse().read()
        connection.close()
    assert threading.active_count() <= threads + 1
    wait_until(lambda: descriptors() <= files + 2)
