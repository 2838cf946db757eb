"""What counts against the limit of an answer is what it unpacks to: some kilobytes of gzip are gigabytes of zeros."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest
import requests

from workload.engine.endpoint import open_client
from workload.services import limits
from workload.services.limits import AnswerTooLongError
from workload.services.prometheus_server import loopback_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 100_000
SMALL, BOMB = b"0" * (LIMIT - 1), b"0" * 20 * LIMIT


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", LIMIT)


@contextmanager
def serving(content: bytes, *encodings: str) -> Iterator[str]:
    """Serve a body, compressed once for each of the encodings, on a free port of 127.0.0.1; yield its address."""
    for _ in encodings:
        content = gzip.compress(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            if encodings:
                self.send_header("Content-Encoding", ", ".join(encodings))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def with_httpx(url: str) -> bytes:
    """Return what our client of engines reads."""
    with open_client(url) as client:
        return client.get("/metrics").content


def with_requests(url: str) -> bytes:
    """Return what our session for Prometheus and others reads."""
    with loopback_session() as session:
        return session.get(f"{url}/metrics", timeout=5).content


READERS = pytest.mark.parametrize("read", [with_httpx, with_requests])


@READERS
@pytest.mark.parametrize("encodings", [(), ("gzip",)])
def test_an_answer_within_the_limit_arrives_whole(read: Callable[[str], bytes], encodings: tuple[str, ...]) -> None:
    """A gateway may compress without being asked: that is no fault as long as the answer is small."""
    with serving(SMALL, *encodings) as url:
        assert read(url) == SMALL


@READERS
def test_a_bomb_is_counted_as_it_unpacks(read: Callable[[str], bytes]) -> None:
    """Two kilobytes on the wire pass any limit that is counted there."""
    assert len(gzip.compress(BOMB)) < LIMIT / 10
    with serving(BOMB, "gzip") as url, pytest.raises(AnswerTooLongError):
        read(url)


def test_a_bomb_in_a_bomb_is_not_unpacked() -> None:
    """Each layer multiplies by a thousand what a single chunk becomes before anybody can count it."""
    with serving(SMALL, "gzip", "gzip") as url, pytest.raises(httpx.HTTPError, match="more than once"):
        with_httpx(url)


@READERS
def test_the_limit_is_the_error_of_each_client(read: Callable[[str], bytes]) -> None:
    """Callers catch what their client raises; an error of another family would end a run with a traceback."""
    with serving(BOMB) as url, pytest.raises((httpx.TransportError, requests.RequestException)):
        read(url)
