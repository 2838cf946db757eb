"""Passwords cannot be guessed, and cannot be locked out: checks are bounded, and only for clients that still wait."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import bcrypt
import httpx
import pytest
from prometheus_client import CollectorRegistry

from exporter.auth import REMEMBERED_REFUSALS, WAITING_CHECKS, BasicAuth, BusyError
from exporter.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        """Tell of the request, and later of the disconnect, as a server does."""
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
    """Return the check, and let go whoever waits at the end."""
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
    assert await auth._is_allowed(header("right"), receive)
    threads = threading.active_count()
    for number in range(REMEMBERED_REFUSALS + 50):
        assert not await auth._is_allowed(header(str(number)), receive)
    assert len(auth._wrong) == REMEMBERED_REFUSALS
    monkeypatch.setattr(bcrypt, "checkpw", Mock(side_effect=AssertionError("checked again")))
    assert await auth._is_allowed(header("right"), receive)
    assert threading.active_count() == threads


async def test_row_25_checks_that_wait_are_bounded(auth: BasicAuth, gate: Gate) -> None:
    """Three thousand checks of 50 ms are two minutes in which the right password times out."""
    waiting = [
        asyncio.create_task(auth._is_allowed(header(str(number)), Client().receive)) for number in range(WAITING_CHECKS)
    ]
    await asyncio.sleep(0)
    for number in range(1000):
        with pytest.raises(BusyError):
            await auth._is_allowed(header(f"more-{number}"), Client().receive)
    gate.go.set()
    assert await asyncio.gather(*waiting) == [False] * WAITING_CHECKS
    assert await auth._is_allowed(header("right"), Client().receive)


async def test_checks_of_clients_that_have_gone_are_dropped(auth: BasicAuth, gate: Gate) -> None:
    """Whoever sends a password and leaves costs one check at the most, however often."""
    for round_number in range(20):
        clients = [Client() for _ in range(WAITING_CHECKS)]
        waiting = [
            asyncio.create_task(auth._is_allowed(header(f"{round_number}-{number}"), client.receive))
            for number, client in enumerate(clients)
        ]
        await asyncio.sleep(0)
        for client in clients:
            client.gone.set()
        assert await asyncio.gather(*waiting) == [False] * WAITING_CHECKS
    gate.go.set()
    assert await auth._is_allowed(header("right"), Client().receive)
    assert len(gate.checked) <= 3  # the one under way, perhaps one that was next, and the right one
    assert not auth._wrong  # nobody waited for the answer


async def test_the_right_password_has_its_turn_among_wrong_ones_that_wait(auth: BasicAuth, gate: Gate) -> None:
    """Checks run in the order in which they came: nobody who came later is before Prometheus."""
    early = [asyncio.create_task(auth._is_allowed(header(str(number)), Client().receive)) for number in range(5)]
    await asyncio.sleep(0)
    right = asyncio.create_task(auth._is_allowed(header("right"), Client().receive))
    await asyncio.sleep(0)
    late = [asyncio.create_task(auth._is_allowed(header(f"l{number}"), Client().receive)) for number in range(5)]
    await asyncio.sleep(0)
    gate.go.set()
    assert await right
    await asyncio.gather(*early, *late)
    assert gate.checked.index(b"right") == 5


async def test_a_password_that_was_checked_while_another_waited_is_not_checked_again(
    auth: BasicAuth, gate: Gate
) -> None:
    """Two Prometheus servers ask with the same password at the same time."""
    asking = [asyncio.create_task(auth._is_allowed(header("right"), Client().receive)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.go.set()
    assert await asyncio.gather(*asking) == [True] * 10
    assert gate.checked == [b"right"]


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
