"""A fleet behind addresses: pages recorded from real engines, and a router's own pages."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from workload.engine.endpoint import open_client

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parents[1] / "fixtures" / "fleet"


class StubFleet:
    """Answers for each address (`http://HOST:PORT`); an address without pages refuses the connection.

    Attributes:
        asked: every page asked for, with its address.
    """

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, Iterable[str]]] = {}
        self.asked: list[str] = []

    def server(self, address: str, metrics: str = "two_e0.prom", sources: dict[str, Any] | None = None) -> None:
        """Add a server with the metrics of a recording, and perhaps its sources of events."""
        pages = {"/metrics": cycle([(FOLDER / metrics).read_text()])}
        self._pages[address] = pages | ({"/kv_event_sources": cycle([json.dumps(sources)])} if sources else {})

    def router(self, address: str, *workers: str, page: str = "/workers") -> None:
        """Add a router that names its servers on one of its two pages, and passes the others on to them in turn."""
        named = {"workers": [{"url": worker, "is_healthy": True} for worker in workers]}
        text = json.dumps(named if page == "/workers" else {"urls": list(workers)})
        self._pages[address] = {page: cycle([text])}

    def balancer(self, address: str, *metrics: str) -> None:
        """Add a front that passes pages on to servers in turn, and names none."""
        self._pages[address] = {"/metrics": cycle([(FOLDER / name).read_text() for name in metrics])}

    def page(self, address: str, path: str, text: str) -> None:
        """Add or replace a page."""
        self._pages.setdefault(address, {})[path] = cycle([text])

    def open(self, address: str, seconds: float) -> httpx.Client:
        """Return a client, as `workload.engine.endpoint.open_client` does."""
        return open_client(address, seconds, httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        address = f"{request.url.scheme}://{request.url.netloc.decode()}"
        if address not in self._pages:
            raise httpx.ConnectError("refused")
        page = self._pages[address].get(request.url.path)
        return httpx.Response(200, text=next(iter(page))) if page else httpx.Response(404)
