"""An HTTP server in a thread of its own, and the metrics server built on it."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from exporter.errors import ActionableError, UsageError
from exporter.web.auth import BasicAuth
from exporter.web.connections import BoundedProtocol, Limits
from exporter.web.listener import Door
from exporter.web.pages import Pages

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from prometheus_client.registry import Collector
    from starlette.types import ASGIApp

DEFAULT_LIMITS = Limits()
START_SECONDS = 10.0
CLOSE_SECONDS = 2
BACKLOG_CONNECTIONS = 512
LOGGED_KINDS = 32


class _Server(uvicorn.Server):
    """uvicorn's server behind a `Door`, with an event that is set once it accepts."""

    def __init__(self, config: uvicorn.Config, limits: Limits, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self.accepting = threading.Event()
        self._door = Door(limits, tls, lambda lost: BoundedProtocol(limits, lost, self.config, self.server_state))
        self._logged: set[str] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept on the bound socket; replaces uvicorn's method, whose asyncio server does not count handshakes."""
        (listener,) = sockets or []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._log)
        self._accepting = loop.create_task(self._door.accept(listener))
        self.servers = []
        self.started = True
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, then end as uvicorn does."""
        self._accepting.cancel()
        self._door.close()
        await super().shutdown(sockets)
        self._door.close(also_connected=True)  # a client that ignores the end of TLS would leak its socket
        await asyncio.sleep(0)

    def _log(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of the event loop, each kind once, because a client can cause it without end."""
        kind = f"{context['message']} ({type(context.get('exception')).__name__})"
        if kind not in self._logged and len(self._logged) < LOGGED_KINDS:
            self._logged.add(kind)
            loop.default_exception_handler(context)


class BackgroundServer:
    """Serves an ASGI application from a thread of its own, within limits of connections and time, until closed.

    Args:
        port: the port, 0 for a free one.
        flag: the user's flag for the address, which the error names if the address cannot be used.
        tls: the context of HTTPS, None for plain HTTP.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        flag: str = "--web.listen-address",
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._flag = flag
        config = uvicorn.Config(
            app,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=CLOSE_SECONDS,
            h11_max_incomplete_event_size=limits.header_bytes,
        )
        self._server = _Server(config, limits, tls)
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Bind, start the thread and return "host:port" with the actual port.

        Raises:
            UsageError: the address is in use, not permitted, or not local.
        """
        self._listener = self._bind()
        host, port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="http-server", daemon=True
        )
        self._thread.start()
        if not self._server.accepting.wait(START_SECONDS):
            raise ActionableError(f"The server did not start within {START_SECONDS:.0f} s.", "See the log.")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stop accepting, let requests in progress finish for up to two seconds, and end the thread."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(2 * CLOSE_SECONDS)

    def close_listener(self) -> None:
        """Close this process's copy of the listening socket, in a process that was forked from the server's."""
        self._listener.close()

    def _bind(self) -> socket.socket:
        address = f"{self._host}:{self._port}"
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # with a protocol given, asyncio disables Nagle's algorithm, which saves 40 ms per response
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise UsageError(f"Address {address} cannot be used: {error.strerror}.", self._remedy) from error
        listener.setblocking(False)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(target)
            listener.listen(BACKLOG_CONNECTIONS)
        except OSError as error:
            listener.close()
            cause = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise UsageError(f"Address {address} {cause}.", self._remedy) from error
        return listener

    @property
    def _remedy(self) -> str:
        return f"Pick another with {self._flag}."

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MetricsServer(BackgroundServer):
    """Serves a registry and optionally a timeline.

    Args:
        registry: the content of /metrics.
        timeline: returns the content of /metrics/timeline (text format 0.0.4 with millisecond timestamps); without it
            that page is a 404.
        host, port, flag, limits, tls: as in `BackgroundServer`.
        title: the heading of the landing page.
        ready: returns whether /-/ready answers 200.
        users: name -> bcrypt hash; without users, access is open.
        has_exemplars: whether the registry's histograms have exemplars, which only OpenMetrics can express.
    """

    def __init__(
        self,
        registry: Collector,
        *,
        timeline: Callable[[], bytes] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        flag: str = "--web.listen-address",
        title: str = "Hop2Rag metrics",
        ready: Callable[[], bool] = lambda: True,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        users: Mapping[str, str] | None = None,
        has_exemplars: bool = False,
    ) -> None:
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="render")
        pages = Pages(registry, timeline, ready, title, executor=self._executor, has_exemplars=has_exemplars).app()
        app = BasicAuth(pages, users) if users else pages
        super().__init__(app, host=host, port=port, flag=flag, limits=limits, tls=tls)

    def close(self) -> None:
        """Close as `BackgroundServer` does, and end the rendering threads."""
        super().close()
        self._executor.shutdown(wait=False, cancel_futures=True)
