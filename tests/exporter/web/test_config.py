"""TLS and basic authentication: what is supported works, what is not is refused."""

from __future__ import annotations

import os
import ssl
import subprocess
from typing import TYPE_CHECKING
from unittest.mock import Mock

import bcrypt
import httpx
import pytest
from prometheus_client import CollectorRegistry

from exporter.errors import UsageError
from exporter.files import MAX_CONFIG_BYTES
from exporter.web.config import read_web_config
from exporter.web.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HASH = bcrypt.hashpw(b"right", b"$2b$04$abcdefghijklmnopqrstuu").decode()  # one salt, so that a test keeps its name


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
    """A setting that is silently ignored is a hole: the user believes that it is in force."""
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


def configured(directory: Path) -> ssl.SSLContext:
    """Return the context of a folder's web.yml."""
    tls = read_web_config(directory / "web.yml").tls_server_config
    assert tls is not None
    return tls.context(directory)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "large"])
@pytest.mark.parametrize("place", ["web.yml", "cert.pem", "key.pem", "ca.pem"])
def test_what_is_no_file_is_refused(certificate: Path, place: str, kind: str) -> None:
    """A start that waits for a FIFO, or reads an endless device, would log nothing."""
    (certificate / "ca.pem").write_bytes((certificate / "cert.pem").read_bytes())
    write(
        certificate,
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem,"
        " client_auth_type: RequireAndVerifyClientCert}\n",
    )
    path = certificate / place
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(bytes(MAX_CONFIG_BYTES + 1))
    with pytest.raises(UsageError, match=rf"{place} (is not a file|has \d+ bytes; the limit is \d+)\.") as caught:
        configured(certificate)
    assert caught.value.exit_code == 2


def test_an_encrypted_key_is_refused_and_no_password_is_asked_for(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL asks at the terminal for the password: a unit at boot has none, and a person at one does not see why."""
    subprocess.run(
        ["openssl", "pkey", "-aes128", "-passout", "pass:x", "-in", "key.pem", "-out", "locked.pem"],
        cwd=certificate,
        check=True,
        capture_output=True,
    )
    tls = read_web_config(write(certificate, "tls_server_config: {cert_file: cert.pem, key_file: locked.pem}\n"))
    assert tls.tls_server_config is not None
    load = Mock(side_effect=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    with pytest.raises(UsageError, match="The TLS files cannot be used"):
        tls.tls_server_config.context(certificate)
    assert load.call_args.kwargs == {"password": ""}  # without any, it would be asked for


def test_client_verification_needs_a_ca_and_nothing_else(tmp_path: Path) -> None:
    """`client_ca_file` without `client_auth_type` would verify no client."""
    text = "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n"
    tls = read_web_config(write(tmp_path, text)).tls_server_config
    assert tls is not None
    with pytest.raises(UsageError, match="do not match"):
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
    """Each wrong answer is a 401, whatever it contains, and again the second time, when it is cached."""
    for _ in range(2):
        assert httpx.get(f"{guarded}/metrics", auth=(user, password)).status_code == status


@pytest.mark.parametrize("header", ["", "Bearer x", "Basic", "Basic !!!", "Basic /w==", "Basic bm9jb2xvbg=="])
def test_headers_without_sense_are_refused(guarded: str, header: str) -> None:
    """Fault row 4: odd input is a 401, never a 500."""
    answer = httpx.get(f"{guarded}/metrics", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_health_needs_no_password(guarded: str) -> None:
    """A container's health check knows no secrets, and the health page reveals none."""
    assert httpx.get(f"{guarded}/-/healthy").status_code == 200
    assert httpx.get(f"{guarded}/-/ready").status_code == 200


def test_a_right_password_is_checked_once(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bcrypt costs 50 ms and more: at a scrape a second it would take a twentieth of a core."""
    checker = Mock(wraps=bcrypt.checkpw)
    monkeypatch.setattr(bcrypt, "checkpw", checker)
    for _ in range(20):
        assert httpx.get(f"{guarded}/metrics", auth=("prometheus", "right")).status_code == 200
    assert checker.call_count == 1
