"""Passwords cannot be guessed, and cannot be locked out: checks are bounded, and only for clients that still wait."""

from __future__ import annotations

import asyncio
import base64
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import bcrypt
import httpx
import pytest
from prometheus_client import CollectorRegistry

from exporter.web.auth import CACHED_REFUSALS, WAITING_CHECKS, BasicAuth
from exporter.web.fair_queue import BusyError
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE, THERE = "192.0.2.1", "192.0.2.2"
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()


def header(password: str) -> str:
    """Return the Authorization header of the one user."""
    return "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()


class Client:
    """A client that waits for its answer until it leaves."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        """Deliver the request, and later the disconnect, like a server."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}


class Gate:
    """A check of passwords that waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checked: list[bytes] = []
        self.go = threading.Event()
        check = bcrypt.checkpw

        def slow(password: bytes, known: bytes) -> bool:
            self.checked.append(password)
            self.go.wait()
            return check(password, known)

        monkeypatch.setattr(bcrypt, "checkpw", slow)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Return the check, and release the waiting ones at the end."""
    gate = Gate(monkeypatch)
    yield gate
    gate.go.set()


@pytest.fixture
def auth() -> BasicAuth:
    """Return a door with one user."""
    return BasicAuth(Mock(), {"prometheus": HASH})


async def test_a_flood_of_wrong_passwords_is_bounded(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault row 4: refusals are remembered in a bounded list, and never push out the one that is right."""
    receive = Client().receive
    assert await auth._is_allowed(header("right"), receive, HERE)
    threads = threading.active_count()
    for number in range(CACHED_REFUSALS + 50):
        assert not await auth._is_allowed(header(str(number)), receive, HERE)
    assert len(auth._wrong) == CACHED_REFUSALS
    monkeypatch.setattr(bcrypt, "checkpw", Mock(side_effect=AssertionError("checked again")))
    assert await auth._is_allowed(header("right"), receive, HERE)
    assert threading.active_count() == threads


async def test_row_25_checks_that_wait_are_bounded(auth: BasicAuth, gate: Gate) -> None:
    """Three thousand checks of 50 ms are two minutes in which the right password times out."""
    waiting = [
        asyncio.create_task(auth._is_allowed(header(str(number)), Client().receive, HERE))
        for number in range(WAITING_CHECKS)
    ]
    await asyncio.sleep(0)
    for number in range(1000):
        with pytest.raises(BusyError):
            await auth._is_allowed(header(f"more-{number}"), Client().receive, HERE)
    gate.go.set()
    assert await asyncio.gather(*waiting) == [False] * WAITING_CHECKS
    assert await auth._is_allowed(header("right"), Client().receive, HERE)


async def test_checks_of_clients_that_have_gone_are_dropped(auth: BasicAuth, gate: Gate) -> None:
    """Whoever sends a password and leaves costs one check at the most, however often."""
    for round_number in range(20):
        clients = [Client() for _ in range(WAITING_CHECKS)]
        waiting = [
            asyncio.create_task(auth._is_allowed(header(f"{round_number}-{number}"), client.receive, HERE))
            for number, client in enumerate(clients)
        ]
        await asyncio.sleep(0)
        for client in clients:
            client.gone.set()
        assert await asyncio.gather(*waiting) == [False] * WAITING_CHECKS
    gate.go.set()
    assert await auth._is_allowed(header("right"), Client().receive, HERE)
    assert len(gate.checked) <= 3  # the one under way, perhaps one that was next, and the right one
    assert not auth._wrong  # no client waited for the result


async def test_the_right_password_has_its_turn_among_wrong_ones_that_wait(auth: BasicAuth, gate: Gate) -> None:
    """Checks run in order of arrival: no later client overtakes Prometheus."""
    early = [asyncio.create_task(auth._is_allowed(header(str(number)), Client().receive, HERE)) for number in range(5)]
    await asyncio.sleep(0)
    right = asyncio.create_task(auth._is_allowed(header("right"), Client().receive, HERE))
    await asyncio.sleep(0)
    late = [asyncio.create_task(auth._is_allowed(header(f"l{number}"), Client().receive, HERE)) for number in range(5)]
    await asyncio.sleep(0)
    gate.go.set()
    assert await right
    await asyncio.gather(*early, *late)
    assert gate.checked.index(b"right") == 5


async def test_a_password_that_was_checked_while_another_waited_is_not_checked_again(
    auth: BasicAuth, gate: Gate
) -> None:
    """Two Prometheus servers ask with the same password at the same time."""
    asking = [asyncio.create_task(auth._is_allowed(header("right"), Client().receive, HERE)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.go.set()
    assert await asyncio.gather(*asking) == [True] * 10
    assert gate.checked == [b"right"]


async def test_clients_that_stay_with_wrong_passwords_wait_behind_others(
    auth: BasicAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty connections of one address ask without a pause: Prometheus has the next turn but one, and no 503."""
    checked: list[bytes] = []
    is_full, is_over = threading.Event(), asyncio.Event()

    def check(password: bytes, _: bytes) -> bool:
        checked.append(password)
        if len(checked) >= WAITING_CHECKS:
            is_full.set()
        return password == b"right"

    monkeypatch.setattr(bcrypt, "checkpw", check)

    async def flood(number: int) -> None:
        for count in itertools.count():
            if is_over.is_set():
                return
            with suppress(BusyError):
                assert not await auth._is_allowed(header(f"{number}-{count}"), Client().receive, HERE)
            await asyncio.sleep(0)

    floods = [asyncio.create_task(flood(number)) for number in range(60)]
    assert await asyncio.to_thread(is_full.wait, 30)
    before = len(checked)
    assert await auth._is_allowed(header("right"), Client().receive, THERE)
    is_over.set()
    await asyncio.gather(*floods)
    assert checked.index(b"right") - before <= 3


def test_a_crowd_over_http_does_not_keep_another_address_out(gate: Gate, wait_until: Callable[..., None]) -> None:
    """The server distinguishes addresses: forty that stay connected, and the right password from another."""
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with (
        MetricsServer(CollectorRegistry(), users={"prometheus": HASH}) as server,
        ExitStack() as crowd,
        ThreadPoolExecutor(1) as thread,
        httpx.Client(transport=transport, timeout=30) as client,
    ):
        host, port = (address := server.start()).split(":")
        for number in range(WAITING_CHECKS + 8):
            connection = crowd.enter_context(socket.create_connection((host, int(port))))
            request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {header(f'wrong-{number}')}\r\n\r\n"
            connection.sendall(request.encode())
        wait_until(lambda: gate.checked)
        answer = thread.submit(client.get, f"http://{address}/metrics", auth=("prometheus", "right"))
        wait_until(lambda: answer.done() or "127.0.0.2" in cast("Any", server._server.config.app)._turns._waiting)
        gate.go.set()
        assert answer.result().status_code == 200
    assert gate.checked.index(b"right") <= 3


def test_row_25_a_flood_that_does_not_wait_locks_no_one_out(gate: Gate, wait_until: Callable[..., None]) -> None:
    """Over HTTP: wrong passwords from connections that are closed at once, then the right one, never seen before."""
    with MetricsServer(CollectorRegistry(), users={"prometheus": HASH}) as server:
        address = server.start()
        host, port = address.split(":")
        for number in range(200):
            with socket.create_connection((host, int(port))) as client:
                request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {header(f'wrong-{number}')}\r\n\r\n"
                client.sendall(request.encode())
        wait_until(lambda: not server._server.server_state.connections)
        gate.go.set()
        answer = httpx.get(f"http://{address}/metrics", auth=("prometheus", "right"), timeout=30)
        assert answer.status_code == 200
    assert len(gate.checked) < 20
