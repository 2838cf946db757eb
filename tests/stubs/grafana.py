"""A Grafana that is none: it checks every request, and its own answers, against fixtures/grafana/api.yaml."""

from __future__ import annotations

import json
import struct
import threading
import time
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from openapi_core import OpenAPI
from openapi_core.contrib.werkzeug import WerkzeugOpenAPIRequest, WerkzeugOpenAPIResponse
from openapi_core.exceptions import OpenAPIError
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterable

SPECIFICATION = Path(__file__).parents[1] / "fixtures" / "grafana" / "api.yaml"
TOKEN = "glsa_stub_0123456789"
PLACEHOLDER = (600, 300)


def png(width: int, height: int) -> bytes:
    """Return a white picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\x00" + b"\xff" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@cache
def specification() -> OpenAPI:
    """Return the specification, read once."""
    return OpenAPI.from_file_path(str(SPECIFICATION))


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Say nothing."""


class StubGrafana:
    """The server, on a free port of 127.0.0.1; a context manager.

    Attributes:
        prefix: the sub-path it serves, such as `/grafana`.
        requests: method, path, query and body of all requests.
        faults: how requests, or answers of this stub, differ from the specification.
        answers: by path, a status, a body and headers to answer instead of what is right.
        dashboards: by uid.
        has_renderer: whether a renderer is set up.
        is_over_limit: whether the renderer answers with a placeholder.
        seconds: pause before each answer.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.faults: list[str] = []
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.has_renderer, self.is_over_limit, self.seconds = True, False, 0.0
        self._api = specification()
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.port}{prefix}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        body = json.loads(request.data) if request.data else None
        self.requests.append((request.method, request.path, dict(request.args), body))
        checked = WerkzeugOpenAPIRequest(request)
        response = self._answer(request)
        time.sleep(self.seconds)
        try:
            self._api.validate_request(checked)
            if request.path not in self.answers:
                self._api.validate_response(checked, WerkzeugOpenAPIResponse(response))
        except OpenAPIError as error:
            self.faults.append(f"{request.method} {request.path}: {error!r} ({error.__cause__!r})")
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.path in self.answers:
            status, data, headers = self.answers[request.path]
            return Response(data, status, headers)
        path = request.path.removeprefix(self.prefix)
        is_known = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not is_known and path != "/api/health":
            return _json({"message": "Invalid API key"}, 401)
        url = f"{self.url}/dashboard/snapshot/K"
        plain = {
            "/api/health": {"database": "ok", "version": "12.4.0", "commit": "stub"},
            "/api/frontend/settings": {"rendererAvailable": self.has_renderer},
            "/api/annotations": {"message": "Annotation added", "id": len(self.requests)},
            "/api/snapshots": {
                "deleteKey": "D",
                "deleteUrl": f"{self.url}/api/snapshots-delete/D",
                "key": "K",
                "url": url,
            },
        }
        return _json(plain[path]) if path in plain else self._of_dashboard(path.split("/")[3], request)

    def _of_dashboard(self, uid: str, request: Request) -> Response:
        if (found := self.dashboards.get(request.path.split("/")[-1 if uid == "uid" else -2])) is None:
            return _json({"message": "Dashboard not found"}, 404)
        if uid == "uid":
            return _json({"dashboard": found, "meta": {}})
        size = (int(request.args["width"]), int(request.args["height"]))
        is_drawn = self.has_renderer and not self.is_over_limit
        return Response(png(*(size if is_drawn else PLACEHOLDER)), 200, {"Content-Type": "image/png"})


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, {"Content-Type": "application/json"})
