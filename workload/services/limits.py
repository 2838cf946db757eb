"""Limits the size and the duration of answers, against a server that floods or drips.

The time-outs of `requests` and `httpx` apply to each read, not to the whole answer, and neither limits its size. A
compressed answer counts by its size after decompression, which may be a thousand times that on the wire.

Clients trust the system's authorities, or those in the file that SSL_CERT_FILE names, as Prometheus does.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_ANSWER_BYTES = 64 * 2**20
"""A range of 11,000 points for some hundred series takes half of this, an exposition of vLLM a hundredth."""

MAX_ANSWER_SECONDS = 60.0
CHUNK_BYTES = 65_536
DESCRIBE_PACKED = frozenset({b"content-encoding", b"content-length"})


class AnswerTooLongError(Exception):
    """An answer exceeded the allowed bytes or seconds."""


class AnswerTooLongForRequests(AnswerTooLongError, requests.RequestException):  # noqa: N818 - shown to users by name
    """The same as an error of `requests`."""


class AnswerTooLongForHttpx(AnswerTooLongError, httpx.TransportError):  # noqa: N818
    """The same as an error of `httpx`."""


def limited(chunks: Iterable[bytes], error: AnswerTooLongError) -> Iterator[bytes]:
    """Yield the chunks of an answer as they arrive.

    Raises:
        AnswerTooLongError: `error`, once there are more than `MAX_ANSWER_BYTES`, or after `MAX_ANSWER_SECONDS`.
    """
    size, deadline = 0, time.monotonic() + MAX_ANSWER_SECONDS
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_ANSWER_BYTES or time.monotonic() > deadline:
            raise error
        yield chunk


class LimitedAdapter(HTTPAdapter):
    """For `requests.Session.mount`: reads every answer within the limits."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Trust the same authorities as our other clients."""
        super().init_poolmanager(*args, **options, ssl_context=ssl.create_default_context())

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        """Send a request and read its answer.

        Raises:
            requests.RequestException: it could not be sent, or its answer exceeded the limits.
        """
        response = super().send(request, **{**options, "stream": True})
        with response:
            response._content = b"".join(limited(arrivals(response), AnswerTooLongForRequests()))  # noqa: SLF001
        return response


def arrivals(response: requests.Response) -> Iterator[bytes]:
    """Yield an answer as it arrives; `iter_content` would wait for a whole chunk, however slowly it drips.

    Raises:
        requests.RequestException: the answer broke off, or its encoding is wrong.
    """
    try:
        while piece := response.raw.read1(CHUNK_BYTES, decode_content=True):
            yield piece
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


@dataclass(frozen=True)
class LimitedStream(httpx.SyncByteStream):
    """The body of an answer, within the limits; `close` closes the connection's part of it."""

    chunks: Iterable[bytes]
    close: Callable[[], None]

    def __iter__(self) -> Iterator[bytes]:
        return limited(self.chunks, AnswerTooLongForHttpx("the answer exceeds its limits"))


class LimitedTransport(httpx.HTTPTransport):
    """For `httpx.Client`: every answer is read and decompressed within the limits, without a proxy."""

    def __init__(self) -> None:
        super().__init__(verify=ssl.create_default_context(), trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the limits apply as its answer is read, to its bytes on the wire and to its content.

        Raises:
            httpx.HTTPError: it could not be sent, or it is compressed twice: one chunk could unpack to any size.
        """
        packed = super().handle_request(request)
        if not isinstance(packed.stream, httpx.SyncByteStream) or "," in packed.headers.get("content-encoding", ""):
            packed.close()
            raise httpx.DecodingError("the answer is compressed more than once", request=request)
        packed.stream = LimitedStream(packed.stream, packed.stream.close)
        kept = [(name, value) for name, value in packed.headers.raw if name.lower() not in DESCRIBE_PACKED]
        content = LimitedStream(packed.iter_bytes(), packed.close)
        return httpx.Response(packed.status_code, headers=kept, stream=content, extensions=packed.extensions)
