"""A canary completion is the only sign of life that counts."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

import httpx
import pytest

from workload.engine.probe import ask_canary, wait_ready
from workload.errors import DependencyDownError

Handler = Callable[[httpx.Request], httpx.Response]
COMPLETION = {"choices": [{"text": "!"}]}


def test_the_canary_is_small_and_apart() -> None:
    """A canary that fills a block would be found in the cache by the first question and raise its hit rate."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=COMPLETION)

    assert ask_canary("http://x", "m", transport=httpx.MockTransport(handle)) >= 0
    body = json.loads(seen[0].content)
    assert len(body["prompt"].split()) + body["max_tokens"] < 16
    assert body["cache_salt"]


def refuse(request: httpx.Request) -> httpx.Response:
    """Answer as a port with nothing behind it."""
    raise httpx.ConnectError("refused", request=request)


@pytest.mark.parametrize(
    ("handle", "says"),
    [
        (refuse, "unreachable"),
        (lambda _: httpx.Response(503), "with 503"),
        (lambda _: httpx.Response(200, json={"choices": []}), "something else"),
        (lambda _: httpx.Response(200, text="<html>"), "something else"),
        (lambda _: httpx.Response(200, json=[]), "something else"),
        (lambda _: httpx.Response(302, headers={"location": "http://169.254.169.254/"}), "with 302"),
    ],
)
def test_anything_but_a_completion_is_a_failure(handle: Handler, says: str) -> None:
    """Each way to fail has its own message, and a redirect does not lead away from the checked endpoint."""
    with pytest.raises(DependencyDownError, match=says):
        ask_canary("http://x", "m", transport=httpx.MockTransport(handle))


def test_a_hanging_server_costs_the_time_out_only() -> None:
    """An engine that accepts and never answers must not block a run for the client's usual 600 s."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(DependencyDownError, match=r"did not answer a canary completion within 0\.2 s"),
    ):
        ask_canary(f"http://127.0.0.1:{server.getsockname()[1]}", "m", timeout_seconds=0.2)


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        """Return the fake seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds


def test_ready_is_when_a_canary_is_answered() -> None:
    """A start takes half a minute of refused connections; they are waiting, not failing."""
    fake, left, seen = FakeTime(), iter([False] * 4 + [True]), []

    def ask() -> None:
        if not next(left):
            raise DependencyDownError("refused")

    assert wait_ready(ask, 60, seen.append, fake.clock, fake.sleep) == fake.now > 0
    assert seen == sorted(seen)


def test_waiting_ends_with_the_last_cause() -> None:
    """After the full five minutes the user must read why, not only that."""
    fake = FakeTime()

    def ask() -> None:
        raise DependencyDownError("it hangs", "restart it")

    with pytest.raises(DependencyDownError, match="not ready within 300 s: it hangs restart it"):
        wait_ready(ask, 300, lambda _: None, fake.clock, fake.sleep)
    assert 300 <= fake.now < 302
