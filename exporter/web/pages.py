"""The pages of a metrics server: /metrics, /metrics/timeline, /-/healthy, /-/ready and a landing page.

The text format 0.0.4 is encoded here, byte for byte as prometheus_client does, in about two thirds of its CPU time: the
library needs 12 ms of a core for 2,000 series, during which no other thread runs. This encoder escapes a name once
instead of once per sample, and a label value only if it contains something to escape.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache, partial
from html import escape
from typing import TYPE_CHECKING

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, gzip_accepted
from prometheus_client.openmetrics.exposition import UNDERSCORES, escape_label_name, escape_metric_name
from prometheus_client.utils import floatToGoString
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample
    from starlette.requests import Request

_LOG = logging.getLogger("exporter.web.pages")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
GZIP_LEVEL = 1  # a scrape is read once, nearby: time matters more than the last 10 % of size
RENDER_SECONDS = 9.0
_TYPES = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram", "unknown": "untyped"}
_SUFFIXES = {"counter": "_total", "info": "_info"}
# In OpenMetrics these belong to their family; in the text format they are families of their own that follow it.
_OWN_FAMILY = ("_created", "_gcount", "_gsum")


@dataclass(eq=False)
class Pages:
    """Serves one registry and optionally one timeline.

    Each format of an exposition is rendered in `executor`, once at a time: clients that ask meanwhile share the result,
    so 500 clients cost as much as one.
    """

    registry: Collector
    timeline: Callable[[], bytes] | None
    ready: Callable[[], bool]
    title: str
    _: KW_ONLY
    executor: Executor
    has_exemplars: bool = False
    _has_failed: bool = field(init=False, default=False)
    _running: dict[tuple[str, ...], asyncio.Future[bytes]] = field(init=False, default_factory=dict)

    def app(self) -> Starlette:
        """Return the ASGI application; every page answers GET and HEAD, anything else gets a 405."""
        routes = [
            Route("/", self._landing),
            Route("/metrics", self._metrics),
            Route("/-/healthy", self._healthy),
            Route("/-/ready", self._is_ready),
        ]
        if self.timeline is not None:
            routes.append(Route("/metrics/timeline", partial(self._render_timeline, self.timeline)))
        return Starlette(routes=routes)

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = negotiate(",".join(request.headers.getlist("accept")), self.has_exemplars)
        return await self._exposition(request, content_type, partial(encode, self.registry))

    async def _render_timeline(self, timeline: Callable[[], bytes], request: Request) -> Response:
        return await self._exposition(request, CONTENT_TYPE_PLAIN_0_0_4, timeline)

    async def _exposition(self, request: Request, content_type: str, render: Callable[[], bytes]) -> Response:
        headers = {"Content-Type": content_type}
        if gzip_accepted(",".join(request.headers.getlist("accept-encoding"))):
            headers["Content-Encoding"] = "gzip"
            render = partial(_compress, render)
        variant = (request.url.path, *headers.values())
        running = self._running.get(variant)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self.executor, render)
            running.add_done_callback(lambda _: self._running.pop(variant))
            self._running[variant] = running
        try:
            body = await asyncio.wait_for(asyncio.shield(running), RENDER_SECONDS)
        except TimeoutError:
            return PlainTextResponse("The exposition is still being rendered.\n", 503, {"Retry-After": "1"})
        except Exception:  # noqa: BLE001 - whatever a collector of the app raises
            if not self._has_failed:
                self._has_failed = True
                _LOG.exception("An exposition could not be rendered; later failures get a 500 and no log line.")
            return PlainTextResponse("The exposition could not be rendered; see the log.\n", 500)
        return Response(body, headers=headers)

    async def _healthy(self, _: Request) -> Response:
        return PlainTextResponse("Healthy.\n")

    async def _is_ready(self, _: Request) -> Response:
        return PlainTextResponse("Ready.\n") if self.ready() else PlainTextResponse("Not ready.\n", 503)

    async def _landing(self, _: Request) -> Response:
        paths = ["/metrics", *(["/metrics/timeline"] if self.timeline else []), "/-/healthy", "/-/ready"]
        links = "".join(f'<li><a href="{path}">{path}</a></li>' for path in paths)
        title = escape(self.title)
        return HTMLResponse(
            f'<!DOCTYPE html><html lang="en"><title>{title}</title><h1>{title}</h1><ul>{links}</ul></html>\n'
        )


def negotiate(accept: str, has_exemplars: bool = False) -> tuple[Callable[[Collector], bytes], str]:
    """Return encoder and content type for an Accept header.

    A client that accepts the text format 0.0.4, as every Prometheus does, gets it: it costs half as much as
    OpenMetrics. Exemplars are the exception, because the text format has none. A client that gets OpenMetrics gets
    version 1.0.0, whatever version or escaping it asks for: each format is rendered once for all clients, so there must
    be few.
    """
    kinds = {part.partition(";")[0].strip() for part in accept.split(",")}
    accepts_text = not kinds.isdisjoint(("text/plain", "text/*", "*/*"))
    if "application/openmetrics-text" in kinds and (has_exemplars or not accepts_text):
        return choose_encoder(OPENMETRICS)
    return encode_text, CONTENT_TYPE_PLAIN_0_0_4


def _compress(render: Callable[[], bytes]) -> bytes:
    return gzip.compress(render(), compresslevel=GZIP_LEVEL)


def encode_text(registry: Collector) -> bytes:
    """Return what `prometheus_client.generate_latest` returns, with "?" for text that UTF-8 cannot encode."""
    lines: list[str] = []
    for family in registry.collect():
        name = family.name + _SUFFIXES.get(family.type, "")
        lines += _header(name, _TYPES.get(family.type, family.type), family.documentation)
        apart = {family.name + suffix: suffix for suffix in _OWN_FAMILY}
        set_apart = [sample for sample in family.samples if sample.name in apart]
        lines += [_line(sample) for sample in family.samples if not set_apart or sample.name not in apart]
        for apart_name in sorted({sample.name for sample in set_apart}):
            lines += _header(apart_name, "gauge", family.documentation)
            lines += [_line(sample) for sample in set_apart if sample.name == apart_name]
    return "".join(lines).encode(errors="replace")  # a lone surrogate must not fail the page


def _header(name: str, kind: str, documentation: str) -> tuple[str, str]:
    escaped = documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {_metric_name(name)} {escaped}\n", f"# TYPE {_metric_name(name)} {kind}\n"


def _line(sample: Sample) -> str:
    labels = ",".join([f'{_label_name(name)}="{_escape(value)}"' for name, value in sorted(sample.labels.items())])
    braces = f"{{{labels}}}" if labels else ""
    timestamp = "" if sample.timestamp is None else f" {int(float(sample.timestamp) * 1000):d}"
    value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
    return f"{_metric_name(sample.name)}{braces} {value}{timestamp}\n"


def _escape(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


@lru_cache(maxsize=4096)
def _metric_name(name: str) -> str:
    return str(escape_metric_name(name, UNDERSCORES))


@lru_cache(maxsize=4096)
def _label_name(name: str) -> str:
    return str(escape_label_name(name, UNDERSCORES))
