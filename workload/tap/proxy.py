"""The reverse proxy for /v1: requests pass to the upstream vLLM, answers pass back as they arrive."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict
from yarl import URL

from workload.tap.answer import Answer
from workload.tap.events import EventCutter
from workload.tap.prompt_log import slot_of
from workload.tap.request import PATHS, add, is_batch, read_body, salt_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

    from workload.tap.answer import Call
    from workload.tap.prompt_log import PromptLog

_LOG = logging.getLogger(__name__)
NODE_HEADER, QUESTION_HEADER = "x-hop2rag-node", "x-hop2rag-question"
OURS = {NODE_HEADER, QUESTION_HEADER}
# of one connection, not of the message (RFC 9110, section 7.6.1); host, length and expectation are written anew
OF_CONNECTION = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "upgrade", "host", "content-length", "expect"),
}
MAX_REQUEST_BYTES = 1 << 28
CONNECT_SECONDS = 5.0
# vLLM closes a connection after 5 s without a request; no call may start at that moment.
KEEP_ALIVE_SECONDS = 4.0


class ClientGoneError(Exception):
    """The client has closed its connection."""


@dataclass(frozen=True)
class Told:
    """What a client tells of a call: the graph's node and the question in headers, the rest in the body."""

    node: str
    question: str
    salt: str


@dataclass
class Proxy:
    """The proxy of one upstream, to be used in one event loop.

    Args:
        upstream: the address of a vLLM, without `/v1`.
        opens: meters one call for the length of a `with` block.
        log: keeps prompts; None keeps none.
    """

    upstream: str
    opens: Callable[[Told], AbstractContextManager[Call]]
    log: PromptLog | None = None
    _session: aiohttp.ClientSession = field(init=False)
    _is_down: bool = field(init=False, default=False)

    async def connected(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the connections to the upstream while the server runs."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as self._session:
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass on a request; meter it if it is a completion."""
        content = await request.read()
        body = read_body(content) if request.method == "POST" and request.path in PATHS else None
        if body is None:
            return await self._forward(request, content, None)
        told = Told(
            node=request.headers.get(NODE_HEADER, ""),
            question=request.headers.get(QUESTION_HEADER, ""),
            salt=salt_of(body),
        )
        with self.opens(told) as call, slot_of(self.log) as slot:
            sent, added = add(body, call.request_fields)
            answer = Answer(call, added, has_bound=not is_batch(body))
            try:
                return await self._forward(request, sent, answer)
            finally:
                if call.usage and call.arrival.prompt:
                    slot.fill(told.question, told.node, call.arrival)

    async def _forward(self, request: web.Request, content: bytes, answer: Answer | None) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in OF_CONNECTION | OURS]
        if answer:
            headers = [(name, value) for name, value in headers if name.lower() != "accept-encoding"]
        try:
            async with self._session.request(
                request.method,
                URL(self.upstream + request.rel_url.raw_path_qs, encoded=True),
                data=content or None,
                headers=headers,
                allow_redirects=False,
            ) as upstream:
                if upstream.version is None or upstream.version < HttpVersion11:
                    return self._failed(answer, "speaks HTTP/1.0, in which a cut answer looks complete")
                self._is_down = False
                return await self._relay(request, upstream, answer)
        except ClientGoneError:
            return web.Response()  # nobody reads it
        except (aiohttp.ClientError, OSError) as error:
            return self._failed(answer, f"does not answer ({type(error).__name__})", "connection")

    async def _relay(
        self, request: web.Request, upstream: aiohttp.ClientResponse, answer: Answer | None
    ) -> web.StreamResponse:
        left_out = OF_CONNECTION if answer else OF_CONNECTION - {"content-length"}
        kept = CIMultiDict((name, value) for name, value in upstream.headers.items() if name.lower() not in left_out)
        head: dict[str, Any] = {"status": upstream.status, "reason": upstream.reason, "headers": kept}
        if answer and upstream.content_type != "text/event-stream":
            data = await upstream.read()
            if not upstream.ok:
                answer.refused(upstream.status, data)
                return web.Response(body=data, **head)
            shown = answer.whole(data)
            answer.end()
            return web.Response(body=shown, **head)
        response = web.StreamResponse(**head)
        await response.prepare(request)
        try:
            await self._stream(upstream, response, answer)
        except (aiohttp.ClientError, OSError) as error:
            if answer:
                answer.failed("stream_cut")
                await _write(response, answer.held())
            if request.transport:
                request.transport.abort()  # a cut answer must not look complete
            raise ClientGoneError from error
        finally:
            if answer:
                answer.end()
        await response.write_eof()
        return response

    async def _stream(
        self, upstream: aiohttp.ClientResponse, response: web.StreamResponse, answer: Answer | None
    ) -> None:
        cutter = EventCutter()
        async for data in upstream.content.iter_any():
            await _write(response, b"".join(map(answer.event, cutter.take(data))) if answer else data)
            if answer:
                answer.settle()
        if answer:
            await _write(response, answer.held() + cutter.rest())
            answer.failed("stream_cut")

    def _failed(self, answer: Answer | None, why: str, reason: str = "server_error") -> web.Response:
        """Answer for an upstream that does not; the log has one line for each outage."""
        if not self._is_down:
            self._is_down = True
            _LOG.warning("%s %s.", self.upstream, why)
        if answer:
            answer.failed(reason)
        message = f"The tap's upstream {self.upstream} {why}."
        return web.json_response({"error": {"message": message, "type": "BadGateway", "code": 502}}, status=502)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        if data:
            await response.write(data)
    except ConnectionError as error:
        raise ClientGoneError from error


async def refuse_path(request: web.Request) -> web.Response:
    """Answer that this path is not the tap's."""
    message = f"The tap passes on /v1 only, not {request.path}."
    return web.Response(text=json.dumps({"error": {"message": message}}), status=404, content_type="application/json")
