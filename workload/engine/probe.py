"""Proves that an engine works by a completion: `/health` may answer 200 while the engine hangs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from workload.engine.endpoint import TIMEOUT_SECONDS, open_client
from workload.engine.key import unanswered
from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY_PROMPT = "Hi"
CANARY_SALT = "canary"
"""The prompt fills no block, so the prefix cache stores nothing of it; the salt separates it where it is supported.

Its tokens count as queries of the prefix cache, so canaries are sent outside measured windows.
"""

POLL_SECONDS = 0.5


def canary_body(model: str) -> dict[str, Any]:
    """Return the request of a canary, which asks for one token."""
    return {"model": model, "prompt": CANARY_PROMPT, "max_tokens": 1, "temperature": 0, "cache_salt": CANARY_SALT}


def ask_canary(
    endpoint: str,
    model: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    transport: httpx.BaseTransport | None = None,
    key: str | None = None,
) -> float:
    """Complete one token and return how long that took, in seconds.

    An idle engine takes 0.1 s, a busy one some seconds. `transport` replaces the network, in tests.

    Raises:
        UsageError: the key is missing or wrong, or the certificate is not trusted.
        DependencyDownError: nothing listens, the engine hangs, or it does not answer a completion.
    """
    started = time.monotonic()
    try:
        with open_client(endpoint, timeout_seconds, transport, key) as client:
            client.post("/v1/completions", json=canary_body(model)).raise_for_status().json()["choices"][0]["text"]
    except httpx.TimeoutException as error:
        raise DependencyDownError(
            f"vLLM at {endpoint} did not answer a canary completion within {timeout_seconds:g} s.",
            "Restart the engine: it hangs, even if /health is fine.",
        ) from error
    except httpx.HTTPError as error:
        raise unanswered(error, endpoint, "a canary completion") from error
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise DependencyDownError(
            f"{endpoint} answered a canary completion with something else.", "Check that this is a vLLM server."
        ) from error
    return time.monotonic() - started


def wait_ready(
    ask: Callable[[], object],
    timeout_seconds: float,
    still_starting: Callable[[float], object],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Send canaries until one is answered; return how many seconds that took.

    `ask` raises `DependencyDownError` if a canary is not answered. `still_starting` gets the seconds so far before each
    attempt, and raises to give up.

    Raises:
        DependencyDownError: no canary was answered in time; the cause is that of the last attempt.
    """
    started = clock()
    while True:
        still_starting(clock() - started)
        try:
            ask()
        except DependencyDownError as error:
            if clock() - started >= timeout_seconds:
                raise DependencyDownError(
                    f"vLLM was not ready within {timeout_seconds:g} s: {error.cause}", error.remedy
                ) from error
            sleep(POLL_SECONDS)
        else:
            return clock() - started
