"""Stubs of Prometheus, Alertmanager and Grafana: well they answer with the API's shapes, and they break on request."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Literal, get_args

from tests.stubs.http import HttpServer, frame, send

if TYPE_CHECKING:
    from collections.abc import Mapping

Fault = Literal[
    "hang", "cut", "reset", "drip", "trickle", "flood", "rename", "error", "garbage", "deep", "null", "digits"
]
"""Accepts and never answers; ends in mid-body; TCP RST; a byte at a time; the same of a length that was told; no end;
other keys; 500; HTML; deep JSON; success without data; a number of more digits than Python reads."""

FAULTS: tuple[Fault, ...] = get_args(Fault)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
TOLD_HEAD = HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 1000000")
VECTOR = {"resultType": "vector", "result": [{"metric": {"job": "vllm"}, "value": [1e9, "1"]}]}

PROMETHEUS: Mapping[str, Any] = {
    "/-/ready": "Prometheus Server is Ready.\n",
    "/api/v1/query": {"status": "success", "data": VECTOR},
    "/api/v1/query_range": {"status": "success", "data": {"resultType": "matrix", "result": []}},
    "/api/v1/status/buildinfo": {"status": "success", "data": {"version": "2.42.0"}},
    "/api/v1/status/flags": {"status": "success", "data": {"web.enable-lifecycle": "false"}},
    "/api/v1/targets?state=active": {"status": "success", "data": {"activeTargets": []}},
}
ALERTMANAGER: Mapping[str, Any] = {
    "/-/ready": "OK",
    "/api/v2/alerts": [],
    "/api/v2/status": {"versionInfo": {"version": "0.25.0"}, "cluster": {"status": "ready"}},
}
GRAFANA: Mapping[str, Any] = {
    "/api/health": {"database": "ok", "version": "11.0.0", "commit": "stub"},
    "/api/datasources": [],
    "/api/annotations": {"message": "Annotation added", "id": 1},
}


class StubService(HttpServer):
    """A server that answers by path, whatever the method.

    Args:
        answers: JSON values, or texts; another path is a 404.

    Attributes:
        fault: what goes wrong; None while all is well.
        asked: the paths, in order of arrival.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__()
        self.answers = answers
        self.fault: Fault | None = None
        self.asked: list[str] = []

    async def answer(self, path: str, content: bytes, writer: asyncio.StreamWriter) -> None:
        """Answer, or break."""
        del content
        self.asked.append(path)
        found = self.answers.get(path)
        text = found if isinstance(found, str) else json.dumps(found)
        if self.fault in {"hang", "cut", "reset", "drip", "trickle", "flood"}:
            await self._break(text.encode(), writer)
        elif self.fault == "error":
            await send(writer, 500, json.dumps({"status": "error", "errorType": "internal", "error": "stub"}))
        elif self.fault == "deep":
            await send(writer, 200, "[" * 100_000)
        elif self.fault == "null":
            await send(writer, 200, json.dumps({"status": "success", "data": None}))
        elif self.fault == "digits":
            await send(writer, 200, "9" * 5000)
        elif self.fault == "garbage":
            await send(writer, 200, "<html>a shop</html>")
        elif self.fault == "rename":
            await send(writer, 200, json.dumps(renamed(found)))
        else:
            await send(writer, 404 if found is None else 200, text)

    async def _break(self, content: bytes, writer: asyncio.StreamWriter) -> None:
        if self.fault == "hang":
            await asyncio.Event().wait()
        if self.fault == "reset":
            writer.transport.abort()
            raise ConnectionResetError
        writer.write(TOLD_HEAD if self.fault == "trickle" else HEAD)
        while self.fault == "trickle":
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)
        if self.fault == "cut":
            await frame(writer, content[: len(content) // 2 + 1])
            raise ConnectionResetError
        while self.fault == "flood":
            await frame(writer, b" " * 2**20)
        while self.fault == "drip":
            await frame(writer, b" ")
            await asyncio.sleep(0.05)


def renamed(value: Any) -> Any:
    """Return a JSON value with every key of every object changed, as an API of another version has it."""
    if isinstance(value, dict):
        return {f"{key}V2": renamed(part) for key, part in value.items()}
    return [renamed(part) for part in value] if isinstance(value, list) else value
