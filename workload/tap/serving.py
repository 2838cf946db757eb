"""Serves a tap from a thread of its own, with an event loop that no app can block."""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Self

import uvloop
from aiohttp import web

from exporter.web.pages import negotiate
from workload.errors import UsageError
from workload.services.process import HOST
from workload.tap.proxy import MAX_REQUEST_BYTES, Proxy, refuse_path

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

BACKLOG_CONNECTIONS = 512
CLOSE_SECONDS = 1.0


class Tap:
    """A proxy that is served on 127.0.0.1; a context manager.

    Args:
        proxy: what it serves under /v1.
        port: the port, 0 for a free one.
        metrics: the content of its /metrics; None for no such page.

    Attributes:
        url: its address, without `/v1`; known from construction on.

    Raises:
        UsageError: the port is taken or not permitted.
    """

    def __init__(self, proxy: Proxy, port: int = 0, metrics: Collector | None = None) -> None:
        try:
            self._socket = socket.create_server((HOST, port), backlog=BACKLOG_CONNECTIONS)
        except OSError as error:
            raise UsageError(
                f"The tap cannot listen on {HOST}:{port}: {error.strerror}.", "Pick another --port."
            ) from error
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._proxy, self._metrics = proxy, metrics
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tap", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.cleanup_ctx.append(self._proxy.connected)
        app.router.add_route("*", "/v1/{path:.*}", self._proxy.handle)
        if self._metrics is not None:
            app.router.add_get("/metrics", partial(_expose, self._metrics))
        app.router.add_route("*", "/{path:.*}", refuse_path)
        # Whoever closes a connection cancels its call, as at the engine itself.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()


async def _expose(metrics: Collector, request: web.Request) -> web.Response:
    encode, content_type = negotiate(request.headers.get("Accept", ""))
    return web.Response(body=encode(metrics), headers={"Content-Type": content_type})
