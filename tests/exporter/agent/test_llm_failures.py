"""Reasons of failures, the same for every client."""

from __future__ import annotations

import asyncio

import httpx
import httpx2
import openai
import pytest

from exporter.agent.instruments import ERROR_REASONS, OTHER
from exporter.agent.llm_failures import reason_of

REQUEST = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions")


class RefusedError(Exception):
    """What a model library raises for a status; some carry it on the response only."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "has_begun", "reason"),
    [
        (asyncio.CancelledError(), True, "cancelled"),
        (TimeoutError(), False, "timeout"),
        (httpx.ReadTimeout("slow"), True, "timeout"),
        (httpx.ConnectError("refused"), False, "connection"),
        (ConnectionResetError(), False, "connection"),
        (httpx.RemoteProtocolError("cut"), True, "stream_cut"),
        (httpx.RemoteProtocolError("cut"), False, "connection"),
        (httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(503)), False, "overloaded"),
        (RefusedError(429), False, "overloaded"),
        (RefusedError(500), False, "server_error"),
        (RefusedError(400, "This model's maximum context length is 8192 tokens."), False, "context_too_long"),
        (RefusedError(400, "no such field"), False, "rejected"),
        (KeyError("choices"), False, OTHER),
    ],
)
def test_reasons(error: BaseException, has_begun: bool, reason: str) -> None:
    """A run distinguishes errors by reason, without knowing the class names of a client."""
    assert reason_of(error, has_begun=has_begun) == reason
    assert reason in {*ERROR_REASONS, OTHER}


def test_openais_own_errors() -> None:
    """The most common client; its time-out is a connection error by class."""
    request = httpx2.Request("POST", str(REQUEST.url))
    assert reason_of(openai.APITimeoutError(request=request), has_begun=False) == "timeout"
    assert reason_of(openai.APIConnectionError(request=request), has_begun=False) == "connection"


@pytest.mark.parametrize(("origin", "reason"), [(ConnectionResetError(), "connection"), (TimeoutError(), "timeout")])
def test_a_time_out_is_reported_by_its_origin(origin: Exception, reason: str) -> None:
    """The aiohttp transport of openai raises its connect time-out for whatever breaks a connection."""
    error = openai.APITimeoutError(request=httpx2.Request("POST", str(REQUEST.url)))
    error.__cause__ = httpx2.ConnectTimeout("")
    error.__cause__.__cause__ = origin
    assert reason_of(error, has_begun=False) == reason
