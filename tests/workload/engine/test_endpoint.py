"""An endpoint comes from a flag or a file: it is checked before anything is sent to it."""

from __future__ import annotations

import socket

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workload.engine.endpoint import parse_endpoint, resolve
from workload.errors import UsageError


def nowhere(host: str) -> list[str]:
    """Resolve literal addresses only, so no test asks a name server."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in found]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("https://gpu-box/llm/v1", "https://gpu-box/llm"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://vllm_cpu:8000/v1", "http://vllm_cpu:8000"),
        ("https://llm.example.org/v1", "https://llm.example.org"),
        ("http://gw:8080/team-a/v1/", "http://gw:8080/team-a"),
        ("HTTPS://GPU-Box.Example.ORG:8443/Team-A/v1", "https://gpu-box.example.org:8443/Team-A"),
        ("http://gw/a/b/c//", "http://gw/a/b/c"),
        ("http://gw/@team/v1", "http://gw/@team"),
        ("http://gw/team%20a/v1", "http://gw/team%20a"),
        ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example"),
        ("http://host.:8000", "http://host.:8000"),
        ("http://[2001:DB8::1]/v1", "http://[2001:db8::1]"),
    ],
)
def test_good_endpoints_lose_what_clients_add(text: str, endpoint: str) -> None:
    """Half of all users paste the URL with /v1; both forms mean the same server."""
    assert parse_endpoint(text, nowhere) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:8000",
        "file:///etc/passwd",
        "ftp://host",
        "gopher://host",
        "http://",
        "http://:8000",
        "http://host:0",
        "http://host:99999",
        "http://host:x",
        "http://[::1",
        "http://host/\n",
        "http://ho st",
        "http://host?x=1",
        "http://host#x",
        "http://169.254.169.254/latest",
        "http://2852039166",
        "http://0xA9FEA9FE",
        "http://0251.0376.0251.0376",
        "http://[fe80::1]",
        "http://[::ffff:169.254.169.254]",
        "http://[fd00:ec2::254]",
        "http://[::169.254.169.254]",
        "http://[64:ff9b::169.254.169.254]",
        "http://[64:ff9b:1::a9fe:a9fe]",
        "http://[2002:a9fe:a9fe::]",
        "http://100.100.100.200",
        "http://224.0.0.1",
        "http://host:8000/v1/chat/completions",
        "http://gw/team/../admin",
        "http://gw/./v1",
        "http://gw/{id}/v1",
        "http://gw/team/%2e%2e/admin",
        "http://gw/%2E/v1",
        "http://gw/team%2fadmin",
        "http://gw/team%5Cadmin",
        "http://gw/%0d%0aHost:x",
        "http://gw/%00",
        "http://gw/%7f",
        "http://gw/%",
        "http://gw/%zz",
        "http://a..b:8000",
        "http://xn--a:8000",
        f"http://{'a' * 64}.example",
        f"http://{'a.' * 150}example",
        "http://gw/a;b\\c",
        "http://-gw:8000",
        "http://g w:8000",
        "http://h%6fst:8000",
        "http://höst.example",
        "http://[::1%25lo]:8000",
        "http://[v1.x]:8000",
        "http://a,b:8000",
        "localhost:8000",
    ],
)
def test_hostile_endpoints_are_refused(text: str) -> None:
    """A benchmark that follows any URL is a way into a cloud's metadata, in whatever spelling of the address."""
    with pytest.raises(UsageError, match=r"--vllm-endpoint|Name the server"):
        parse_endpoint(text, nowhere)


def test_a_name_that_leads_to_metadata_is_refused() -> None:
    """The name is harmless; what it resolves to is not."""
    with pytest.raises(UsageError, match=r"169\.254\.169\.254"):
        parse_endpoint("http://innocent.example", lambda _: ["192.0.2.1", "169.254.169.254"])


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=4), st.sampled_from(["http", "file", "x"]))
def test_credentials_are_never_repeated(secret: str, scheme: str) -> None:
    """An error message ends up in logs and bug reports."""
    assume(
        secret.lower() not in "the endpoint contains credentials. leave them out. give --vllm-endpoint as http https"
    )
    with pytest.raises(UsageError) as refused:
        parse_endpoint(f"{scheme}://user:{secret}@host:8000", nowhere)
    assert secret not in str(refused.value)


@given(st.text())
def test_any_text_is_an_endpoint_or_an_error_of_ours(text: str) -> None:
    """Whatever a settings file contains, the user reads one line."""
    try:
        endpoint = parse_endpoint(text, nowhere)
    except UsageError:
        return
    assert endpoint.startswith(("http://", "https://"))


def test_a_name_without_address_resolves_to_nothing() -> None:
    """The connection will say so later, with the better message."""
    assert resolve("no-such-host.invalid") == []
    assert resolve("x" * 300) == []
