"""TLS and basic authentication: what is supported works, what is not is refused."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING
from unittest.mock import Mock

import bcrypt
import httpx
import pytest
from prometheus_client import CollectorRegistry

from exporter.auth import REMEMBERED_REFUSALS, BasicAuth
from exporter.errors import UsageError
from exporter.server import MetricsServer
from exporter.web_config import read_web_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()


def write(directory: Path, text: str) -> Path:
    """Write a configuration and return its path."""
    path = directory / "web.yml"
    path.write_text(text)
    return path


@pytest.fixture
def guarded() -> Iterator[str]:
    """Serve behind one user and password."""
    with MetricsServer(CollectorRegistry(), users={"prometheus": HASH}) as server:
        yield f"http://{server.start()}"


def test_tls_is_served(certificate: Path) -> None:
    """A scrape across hosts must not be readable on the way."""
    path = write(certificate, "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  min_version: TLS13\n")
    tls = read_web_config(path).tls_server_config
    assert tls is not None
    with MetricsServer(CollectorRegistry(), tls=tls.context(certificate)) as server:
        address = server.start()
        trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        answer = httpx.get(f"https://{address}/-/healthy", verify=trusted)
        assert answer.status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{address}/-/healthy")


def test_clients_without_a_certificate_are_refused_where_one_is_required(certificate: Path) -> None:
    """Mutual TLS is how clusters guard their exporters."""
    path = write(
        certificate,
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: cert.pem,"
        " client_auth_type: RequireAndVerifyClientCert}\n",
    )
    tls = read_web_config(path).tls_server_config
    assert tls is not None
    with MetricsServer(CollectorRegistry(), tls=tls.context(certificate)) as server:
        url = f"https://{server.start()}/-/healthy"
        stranger = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        with pytest.raises(httpx.HTTPError):
            httpx.get(url, verify=stranger)
        known = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        known.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        assert httpx.get(url, verify=known).status_code == 200


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("basic_auth_user: {}\n", "basic_auth_user: Extra inputs"),
        ("tls_server_config: {cert_file: a, key_file: b, cipher_suites: []}\n", "cipher_suites: Extra inputs"),
        ("http_server_config: {http2: false}\n", "http_server_config: Extra inputs"),
        ("tls_server_config: {cert_file: a}\n", "key_file: Field required"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n", "min_version"),
        ("basic_auth_users: {a: plain}\n", "must be a bcrypt hash"),
        (f"basic_auth_users: {{a: {HASH.replace('$04$', '$31$')}}}\n", "must be a bcrypt hash of cost 4 to 14"),
        ("- a list\n", "content"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_what_is_not_supported_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """A setting that is silently ignored is a hole: the user believes that it holds."""
    with pytest.raises(UsageError, match=reason) as caught:
        read_web_config(write(tmp_path, text))
    assert "plain" not in str(caught.value)
    assert HASH not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    """A mistyped path is the user's to mend, without a traceback."""
    with pytest.raises(UsageError, match="No such file"):
        read_web_config(tmp_path / "none.yml")
    tls = read_web_config(write(tmp_path, "tls_server_config: {cert_file: a, key_file: b}\n")).tls_server_config
    assert tls is not None
    with pytest.raises(UsageError, match="No such file"):
        tls.context(tmp_path)


def test_client_verification_needs_a_ca_and_nothing_else(tmp_path: Path) -> None:
    """`client_ca_file` without `client_auth_type` would verify no one."""
    text = "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n"
    tls = read_web_config(write(tmp_path, text)).tls_server_config
    assert tls is not None
    with pytest.raises(UsageError, match="do not go together"):
        tls.context(tmp_path)


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [
        ("prometheus", "right", 200),
        ("prometheus", "wrong", 401),
        ("prometheus", "", 401),
        ("nobody", "right", 401),
        ("prometheus", "x" * 5000, 401),
        ("ünï", "\x00", 401),
    ],
)
def test_only_the_right_password_opens(guarded: str, user: str, password: str, status: int) -> None:
    """Each wrong answer is a 401, whatever it holds, and the second time too, when it is remembered."""
    for _ in range(2):
        assert httpx.get(f"{guarded}/metrics", auth=(user, password)).status_code == status


@pytest.mark.parametrize("header", ["", "Bearer x", "Basic", "Basic !!!", "Basic /w==", "Basic bm9jb2xvbg=="])
def test_headers_without_sense_are_refused(guarded: str, header: str) -> None:
    """Fault row 4: odd input is a 401, never a 500."""
    answer = httpx.get(f"{guarded}/metrics", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_health_needs_no_password(guarded: str) -> None:
    """A container's health check knows no secrets, and health tells none."""
    assert httpx.get(f"{guarded}/-/healthy").status_code == 200
    assert httpx.get(f"{guarded}/-/ready").status_code == 200


def test_a_right_password_is_checked_once(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bcrypt costs 50 ms and more: at a scrape a second it would take a twentieth of a core."""
    checker = Mock(wraps=bcrypt.checkpw)
    monkeypatch.setattr(bcrypt, "checkpw", checker)
    for _ in range(20):
        assert httpx.get(f"{guarded}/metrics", auth=("prometheus", "right")).status_code == 200
    assert checker.call_count == 1


async def test_a_flood_of_wrong_passwords_is_bounded_and_locks_no_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault row 4: refusals are remembered in a bounded list, and never push out the one that is right."""
    auth = BasicAuth(lambda *_: None, {"prometheus": HASH})  # type: ignore[arg-type]
    right = httpx.BasicAuth("prometheus", "right")._auth_header
    assert await auth._is_allowed(right)
    threads = threading.active_count()
    for number in range(REMEMBERED_REFUSALS + 50):
        assert not await auth._is_allowed(httpx.BasicAuth("prometheus", str(number))._auth_header)
    assert len(auth._wrong) == REMEMBERED_REFUSALS
    monkeypatch.setattr(bcrypt, "checkpw", Mock(side_effect=AssertionError("checked again")))
    assert await auth._is_allowed(right)
    assert threading.active_count() == threads
