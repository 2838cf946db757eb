"""Checks the addresses of servers: never a file, a cloud's metadata service or a URL with a password.

Every server's address is checked here, before anything is started.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import httpx

from workload.engine.key import KeyAuth
from workload.errors import UsageError
from workload.services.limits import LimitedTransport

if TYPE_CHECKING:
    from collections.abc import Callable

METADATA_ADDRESSES = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Metadata services of clouds outside the link-local ranges."""

TIMEOUT_SECONDS = 10.0

FLAG = "--vllm-endpoint"
EXAMPLES = "http://HOST:PORT or https://HOST/PREFIX"

MAX_NAME = 253
# The standard for host names has no underscores, but service names in compose and Kubernetes do.
HOST_PATTERN = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?")
# An escape must not hide a control character, a dot, a slash or a backslash.
ESCAPE = r"%(?!2[EeFf]|5[Cc]|7[Ff])[2-9A-Fa-f][0-9A-Fa-f]"
PATH_PATTERN = re.compile(rf"(/(?!\.{{1,2}}(?:/|$))(?:[A-Za-z0-9._~+@:=,;-]|{ESCAPE})+)*")
# IPv6 addresses that end in an IPv4 address, to which a gateway or this host forwards.
ENDING_IN_IPV4 = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))


def resolve(host: str) -> list[str]:
    """Return the addresses of `host`, also in spellings such as 0xA9FEA9FE; empty if it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]


def parse_endpoint(text: str, resolve: Callable[[str], list[str]] = resolve) -> str:
    """Return a vLLM's endpoint as `check_url` does, without `/v1`, which clients add.

    Raises:
        UsageError: see `check_url`; or it names a page of the API instead of the server.
    """
    url = check_url(text, FLAG, resolve).removesuffix("/v1")
    if "/v1/" in f"{urlsplit(url).path}/":
        raise UsageError(f"The endpoint {url} names a page of the API.", f"Give {FLAG} up to /v1, such as {EXAMPLES}.")
    return url


def check_url(text: str, given_by: str, resolve: Callable[[str], list[str]] = resolve) -> str:
    """Return a server's address, its host in lower case, without a trailing slash; `given_by` names its flag.

    A path is kept, because a gateway may distinguish its servers by it; so is a port, which defaults to the scheme's.

    Raises:
        UsageError: it is not a plain http(s) URL, has credentials, or resolves to a link-local or metadata address.
            The message never repeats the credentials.
    """
    remedy = f"Give {given_by} as {EXAMPLES}."
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("The endpoint is not a URL: its host or port cannot be read.", remedy) from error
    if "@" in parts.netloc or ("@" in text and not parts.netloc):
        raise UsageError("The endpoint contains credentials.", f"Leave them out. {remedy}")
    if not text.isprintable() or " " in text:
        raise UsageError("The endpoint contains blanks or control characters.", remedy)
    if parts.scheme not in {"http", "https"}:
        raise UsageError(f"The endpoint's scheme is {parts.scheme!r}, not http or https.", remedy)
    if not host or port == 0:
        raise UsageError(f"The endpoint {text!r} names no host, or port 0.", remedy)
    _require_plain(parts, host, remedy)
    for address in resolve(host):
        if _is_forbidden(address):
            raise UsageError(
                f"The endpoint's host {host} is {address}, a link-local or metadata address.",
                f"Name the server that {given_by} is to reach.",
            )
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def _require_plain(parts: SplitResult, host: str, remedy: str) -> None:
    if parts.query or parts.fragment:
        raise UsageError(f"The endpoint on {host} has a query or fragment.", remedy)
    if not (_is_ipv6(host) if "[" in parts.netloc else _is_name(host)):
        allowed = "Write it in letters, digits, dots, dashes and underscores, or as [IPv6]."
        raise UsageError(f"The endpoint's host {host!r} is not a host name.", f"{allowed} {remedy}")
    if not PATH_PATTERN.fullmatch(parts.path.rstrip("/")):
        raise UsageError(f"The endpoint on {host} has the path {parts.path!r}, which is not plain.", remedy)


def _is_name(host: str) -> bool:
    if len(host) > MAX_NAME or not HOST_PATTERN.fullmatch(host):
        return False
    try:  # checks the length of each part, and the Unicode name in those that begin with xn--
        return bool(host.encode("idna") and httpx.URL(f"http://{host}").host)
    except (UnicodeError, httpx.InvalidURL):
        return False


def _is_ipv6(host: str) -> bool:
    try:
        return ":" in host and "%" not in host and bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def _is_forbidden(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = _embedded(address) or address
    return address.is_link_local or address.is_multicast or address in METADATA_ADDRESSES


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address reaches by translation or a tunnel; None if there is none."""
    if found := address.ipv4_mapped or address.sixtofour:
        return found
    is_translated = any(address in network for network in ENDING_IN_IPV4) and not address.is_loopback
    return ipaddress.IPv4Address(address.packed[-4:]) if is_translated else None


def open_client(
    endpoint: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    transport: httpx.BaseTransport | None = None,
    key: str | None = None,
) -> httpx.Client:
    """Return a client for a checked endpoint, without a proxy (it would be measured) and redirects (unchecked).

    `key` is sent only where an engine requires it, see `workload.engine.key`. Answers are limited in size and time, see
    `workload.services.limits`.
    """
    return httpx.Client(
        base_url=endpoint,
        timeout=timeout_seconds,
        trust_env=False,
        follow_redirects=False,
        auth=KeyAuth(endpoint, key) if key else None,
        transport=transport or LimitedTransport(),
    )
