"""The number of connections is bounded from the accept on: TLS, whose handshake comes first, is no way around it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING
from unittest.mock import Mock

import httpx
import pytest
from prometheus_client import CollectorRegistry

from exporter.web.connections import Limits, Seldom
from exporter.web.listener import _LOG, Door
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Serve = Callable[[Limits], tuple[MetricsServer, httpx.Client]]

LIMITS = Limits(connections=8, handshake_seconds=60, request_seconds=60)


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    """Return a context to serve with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


@pytest.fixture
def serve(
    certificate: Path, context: ssl.SSLContext
) -> Iterator[Callable[[Limits], tuple[MetricsServer, httpx.Client]]]:
    """Return a function that serves HTTPS within limits, and a client of it."""
    trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with ExitStack() as stack:

        def begin(limits: Limits) -> tuple[MetricsServer, httpx.Client]:
            server = stack.enter_context(MetricsServer(CollectorRegistry(), limits=limits, tls=context))
            url = f"https://{server.start()}"
            return server, stack.enter_context(httpx.Client(base_url=url, verify=trusted, timeout=30))

        yield begin


def connect(client: httpx.Client) -> socket.socket:
    """Return a connection that says nothing."""
    return socket.create_connection((client.base_url.host, client.base_url.port or 0))


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed this connection."""
    connection.setblocking(False)
    try:
        return not connection.recv(65536)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("greeting", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n"])
def test_row_25_connections_without_a_handshake_count(
    serve: Serve, wait_until: Callable[..., None], greeting: bytes
) -> None:
    """With TLS each silent connection took a descriptor for ten seconds, without a limit, and locked out scrapes."""
    server, client = serve(LIMITS)
    guests = server._server._door._guests
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(client)) for _ in range(5 * LIMITS.connections)]
        for connection in crowd:
            try:
                connection.sendall(greeting)
            except OSError:  # dropped already
                continue
        for _ in range(3):
            assert client.get("/metrics").status_code == 200
            assert len(guests) <= LIMITS.connections
        wait_until(lambda: sum(map(is_closed, crowd)) >= 4 * LIMITS.connections)
    wait_until(lambda: len(guests) <= 1)  # the client's own


def test_a_handshake_has_a_time_of_its_own(serve: Serve, wait_until: Callable[..., None]) -> None:
    """It takes two round trips: who needs longer has not begun one."""
    _, client = serve(Limits(handshake_seconds=0.2, request_seconds=3600))
    with connect(client) as silent:
        wait_until(lambda: is_closed(silent))


def test_a_server_ends_during_handshakes(serve: Serve) -> None:
    """Silent clients must not delay the shutdown."""
    server, client = serve(LIMITS)
    assert client.get("/metrics").status_code == 200
    with connect(client), connect(client) as silent:
        server.close()
        assert not server._thread.is_alive()
        silent.settimeout(30)
        assert silent.recv(1) == b""


class Listener:
    """Stands in for the loop's accept: gives its answers in order, then nothing."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.is_empty = asyncio.Event()

    async def accept(self, _: object) -> tuple[socket.socket, object]:
        """Return or raise the next answer."""
        if not self.answers:
            self.is_empty.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer, None  # type: ignore[return-value]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_row_25_no_descriptor_is_said_once_and_idle_ones_make_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    """Asyncio says it 512 times for each connection that waits, and tries again as often: 25 MB of log in 9 s."""
    monkeypatch.setattr("exporter.web.listener.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(_LOG, "filters", [Seldom(lambda: 0.0)])
    idle = Mock(is_connected=True, is_waiting=True, waiting_since=1.0)
    busy = Mock(is_connected=True, is_waiting=False, waiting_since=0.0)
    door = Door(LIMITS, None, Mock())
    door._guests |= {idle: (Mock(), Mock()), busy: (Mock(), Mock())}
    listener = Listener(*[OSError(code, os.strerror(code))] * 500, ConnectionAbortedError(), OSError(code, "x"))
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", listener.accept)
    accepting = asyncio.create_task(door.accept(Mock()))
    await listener.is_empty.wait()
    accepting.cancel()
    assert len(caplog.records) == 1
    assert os.strerror(code) in caplog.text
    idle.transport.abort.assert_called_once()
    busy.transport.abort.assert_not_called()


@pytest.mark.parametrize(("tls", "said"), [(None, b"HTTP/1.1 503"), (Mock(), b"")])
async def test_a_newcomer_is_refused_where_all_are_answered(tls: ssl.SSLContext | None, said: bytes) -> None:
    """A 503 before a handshake would not be TLS; a request in progress is not dropped for a new connection."""
    door = Door(Limits(connections=1), tls, Mock())
    door._guests[Mock(is_waiting=False)] = Mock(), Mock()
    ours, theirs = socket.socketpair()
    with theirs:
        door._let_in(ours)
        assert theirs.recv(12) == said
        assert len(door._guests) == 1


async def test_what_the_loop_cannot_give_to_anybody_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A client that provokes an error of the loop may do so a thousand times a second."""
    server, loop = MetricsServer(CollectorRegistry())._server, asyncio.get_running_loop()
    for number in range(1000):
        server._log(loop, {"message": "Fatal error: it broke", "exception": OSError(number)})
        server._log(loop, {"message": f"another, {number}"})
    assert len([record for record in caplog.records if "it broke" in record.message]) == 1
    assert len(caplog.records) < 50
