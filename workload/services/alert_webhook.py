"""The webhook that Alertmanager calls: authenticated, bounded, and answered with 2xx once the action is on disk."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from workload.errors import DependencyDownError, StorageError, UsageError
from workload.files.enclosed import text_of
from workload.services.alert import Notification

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


PATH = "/alerts"
OWN_SUFFIXES = (".local", ".localhost", ".internal", ".svc")
"""Suffixes of names within a network; no registrar sells them."""

MAX_BODY_BYTES = 1024 * 1024


def read_token(file: Path) -> str:
    """Return the bearer token in a file, which another program may have written.

    Raises:
        UsageError: the file cannot be read or has no token.
    """
    try:
        token = text_of(file.resolve()).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a plain text file"
        raise UsageError(f"Cannot read {file}: {reason}.", "Name the file that contains the token.") from error
    if not token:
        raise UsageError(f"{file} is empty.", "Write the token that Alertmanager sends into it.")
    return token


def webhook(
    token: str, receive: Callable[[Notification], Awaitable[bool]], count: Callable[[str], object]
) -> Starlette:
    """Return the application.

    Args:
        token: the bearer token that the caller must send; compared in constant time.
        receive: handles a notification and returns, once its actions are on disk, whether it was new.
        count: called with the outcome of each request, one of `exporter.agent.soak.REQUESTS`.

    Raises:
        ValueError: the token is empty, which would let everyone in.
    """
    if not token:
        raise ValueError("a webhook without a token lets everyone in")
    expected = f"Bearer {token}".encode()

    def refuse(status: int, outcome: str, why: str) -> Response:
        count(outcome)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return PlainTextResponse(f"{why}\n", status, headers)

    async def post(request: Request) -> Response:
        if _is_of_a_page(request):
            return refuse(403, "unauthorized", "Browsers may not call this.")
        given = request.headers.get("authorization", "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, expected):
            return refuse(401, "unauthorized", "Unauthorized")
        try:
            notification = Notification.model_validate_json(await _body(request))
        except _TooLargeError:
            return refuse(413, "too_large", f"At most {MAX_BODY_BYTES} bytes.")
        except (ValidationError, RecursionError, ClientDisconnect):
            return refuse(
                400, "malformed", "Not a webhook notification of Alertmanager (version 4) or Grafana (version 1)."
            )
        try:
            is_new = await receive(notification)
        except (StorageError, DependencyDownError):
            return PlainTextResponse("Try again: the journal cannot be written, or Prometheus does not answer.\n", 503)
        count("accepted" if is_new else "duplicate")
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route(PATH, post, methods=["POST"])])


class _TooLargeError(Exception):
    """A body exceeds `MAX_BODY_BYTES`."""


async def _body(request: Request) -> bytes:
    """Return the body of a request; reads at most one chunk more than `MAX_BODY_BYTES`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _TooLargeError
    return bytes(body)


def _is_of_a_page(request: Request) -> bool:
    """Return whether a request comes from a browser: it has an Origin, or its Host is a public name.

    Anyone can make a name of theirs resolve to 127.0.0.1 (DNS rebinding); Alertmanager calls an address, or a name of
    this network.
    """
    host = request.headers.get("host", "")
    if "origin" in request.headers:
        return True
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return "." in name.rstrip(".") and not name.rstrip(".").lower().endswith(OWN_SUFFIXES)
    return False
