"""An HTTP server for stubs: on a free port of 127.0.0.1, in a thread of its own, so that clients may block."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from workload.services.process import free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping


class HttpServer(ABC):
    """The server; a context manager. A stub says in `answer` what it answers; `heard` has all paths and headers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.tls: ssl.SSLContext | None = None
        self.heard: list[tuple[str, dict[str, str]]] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stub")

    @abstractmethod
    async def answer(self, path: str, content: bytes, writer: asyncio.StreamWriter) -> None:
        """Answer a request."""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.live()
        return self

    def __exit__(self, *exc: object) -> None:
        self.die()
        self._call(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def live(self) -> None:
        """Listen, on the same port as before."""
        self._call(self._listen())

    def die(self) -> None:
        """Stop listening and reset every connection, as a SIGKILL does."""
        self._call(self._close())

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)

    async def _close(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().splitlines()
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                path = first.split()[1]
                self.heard.append((path, headers))
                await self.answer(path, content, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # the client has gone, or the stub is being closed
        finally:
            self._writers.discard(writer)
            writer.close()


async def frame(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send a chunk of a chunked answer; an empty one ends it."""
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def send(writer: asyncio.StreamWriter, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
    """Send a whole answer."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    data = text.encode()
    writer.write(f"HTTP/1.1 {status} Stub\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data)
    await writer.drain()
