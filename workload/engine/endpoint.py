"""Which addresses may be talked to: never a file, a cloud's metadata service or a URL with a password."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from workload.errors import UsageError
from workload.limits import LimitedTransport

if TYPE_CHECKING:
    from collections.abc import Callable

METADATA_ADDRESSES = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Metadata services of clouds outside the link-local ranges."""

TIMEOUT_SECONDS = 10.0

FLAG = "--vllm-endpoint"


def resolve(host: str) -> list[str]:
    """Return the addresses of `host`, also of spellings such as 0xA9FEA9FE; none if it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]


def parse_endpoint(text: str, resolve: Callable[[str], list[str]] = resolve) -> str:
    """Return a vLLM's endpoint as `check_url` does, without `/v1`, which clients add.

    Raises:
        UsageError: see `check_url`.
    """
    return check_url(text, FLAG, resolve).removesuffix("/v1")


def check_url(text: str, given_by: str, resolve: Callable[[str], list[str]] = resolve) -> str:
    """Return a server's address without its trailing slash; `given_by` is the flag or variable that holds it.

    Raises:
        UsageError: it is no plain http(s) URL, carries credentials, or leads to a link-local or metadata address.
            The message never repeats the credentials.
    """
    remedy = f"Give {given_by} as http://HOST:PORT or https://HOST:PORT."
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("The endpoint is no URL: its host or port cannot be read.", remedy) from error
    if "@" in text:
        raise UsageError("The endpoint carries credentials.", f"Leave them out. {remedy}")
    if not text.isprintable() or " " in text:
        raise UsageError("The endpoint holds blanks or control characters.", remedy)
    if parts.scheme not in {"http", "https"}:
        raise UsageError(f"The endpoint's scheme is {parts.scheme!r}, not http or https.", remedy)
    if not host or port == 0:
        raise UsageError(f"The endpoint {text!r} names no host, or port 0.", remedy)
    if parts.query or parts.fragment:
        raise UsageError(f"The endpoint on {host} has a query or fragment.", remedy)
    for address in resolve(host):
        if _is_forbidden(address):
            raise UsageError(
                f"The endpoint's host {host} is {address}, a link-local or metadata address.",
                f"Name the server that {given_by} is to reach.",
            )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_forbidden(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_link_local or address.is_multicast or address in METADATA_ADDRESSES


def open_client(
    endpoint: str, timeout_seconds: float = TIMEOUT_SECONDS, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    """Return a client for a checked endpoint: no proxy (it would be measured too), no redirects (unchecked).

    Its answers are limited in size and time; see `workload.limits`.
    """
    return httpx.Client(
        base_url=endpoint,
        timeout=timeout_seconds,
        trust_env=False,
        follow_redirects=False,
        transport=transport or LimitedTransport(),
    )
