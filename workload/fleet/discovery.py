"""Finds the engines behind an address: one server, its data-parallel ranks, a router's servers, or nothing certain.

A router passes `/metrics`, `/version` and most other pages on to some server, so they are read from each server itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import httpx

from workload.engine.endpoint import TIMEOUT_SECONDS as SERVER_SECONDS
from workload.engine.endpoint import check_url, open_client
from workload.errors import DependencyDownError, UsageError
from workload.fleet.event_source import EventSource, source_of
from workload.fleet.rank_facts import RankFacts, ranks_on, values_on
from workload.fleet.router_pages import workers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from workload.fleet.events import EngineId

TIMEOUT_SECONDS = 2.0
"""For a router and the servers that it names: it answers at once, and several may be down."""
SCRAPES = 4
"""How often a server is scraped to see whether another one answers: two servers in turn do so within two."""
START_TIME = "process_start_time_seconds"
RANK = re.compile(r"@(\d{1,4})$")

Kind = Literal["server", "ranks", "router"]


@dataclass(frozen=True)
class Discovery:
    """What an address is.

    Attributes:
        endpoint: the address that calls go to.
        kind: one server with one engine, one with several ranks, or a router.
        engines: all engines behind it.
        sources: where they publish KV cache events; none before vLLM 0.31, which does not say it.
    """

    endpoint: str
    kind: Kind
    engines: tuple[RankFacts, ...]
    sources: tuple[EventSource, ...]

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses of the servers."""
        return tuple(dict.fromkeys(rank.engine.server for rank in self.engines))

    def sentence(self) -> str:
        """Return in words what the address is."""
        if self.kind == "router":
            return f"{self.endpoint} is a router in front of {len(self.engines)} engines: {', '.join(self.servers)}."
        ranks = f" with {len(self.engines)} data-parallel ranks" if self.kind == "ranks" else ""
        return f"{self.endpoint} is one vLLM server{ranks}."


def discover(
    endpoint: str, open_: Callable[[str, float], httpx.Client] = open_client, replicas: Sequence[str] = ()
) -> Discovery:
    """Return what is behind a checked address; `open_` returns a client for an address with a time limit in seconds.

    `replicas` are the checked addresses of its servers, for a front that does not name them.

    Raises:
        UsageError: it passes pages on to several servers and does not name them, or it is no vLLM.
        DependencyDownError: a server, or one that a router names, does not answer.
    """
    workers: Sequence[str] | None = replicas
    if not replicas:
        with open_(endpoint, TIMEOUT_SECONDS) as client:
            workers = workers_of(client)
    if workers is None:
        engines, sources = _server(endpoint, open_, SERVER_SECONDS)
        return Discovery(endpoint, "ranks" if len(engines) > 1 else "server", engines, sources)
    found = [_worker(endpoint, worker, open_) for worker in dict.fromkeys(RANK.sub("", worker) for worker in workers)]
    if not found:
        raise DependencyDownError(f"The router {endpoint} has no servers.", "Start them, or name one server.")
    return Discovery(
        endpoint,
        "router",
        tuple(rank for engines, _ in found for rank in engines),
        tuple(source for _, sources in found for source in sources),
    )


def _worker(
    router: str, worker: str, open_: Callable[[str, float], httpx.Client]
) -> tuple[tuple[RankFacts, ...], tuple[EventSource, ...]]:
    server = check_url(worker, f"the router {router}")
    try:
        return _server(server, open_, TIMEOUT_SECONDS)
    except DependencyDownError as error:
        raise DependencyDownError(
            f"The router {router} sends calls to {server}, which cannot be reached from here.",
            "Name the servers as they are reached from here with --replicas URL,URL, or one with --vllm-endpoint.",
        ) from error


def _server(
    server: str, open_: Callable[[str, float], httpx.Client], seconds: float
) -> tuple[tuple[RankFacts, ...], tuple[EventSource, ...]]:
    """Return a server's engines and where they publish events."""
    try:
        with open_(server, seconds) as client:
            pages = [client.get("/metrics").raise_for_status().text for _ in range(SCRAPES)]
            answer = client.get("/kv_event_sources")
    except httpx.HTTPError as error:
        raise DependencyDownError(f"{server} does not answer within {seconds:.0f} s.", "Start it.") from error
    try:
        starts = {start for page in pages for start in values_on(page, START_TIME)}
        engines = tuple(ranks_on(server, pages[0]))
    except ValueError as error:
        raise UsageError(f"{server}/metrics is not an exposition of metrics.", "Name a vLLM server.") from error
    if len(starts) > 1:
        raise UsageError(
            f"{server} passes pages on to several servers and names none: each scrape may be another's.",
            "Name all of them with --replicas URL,URL, or one with --vllm-endpoint.",
        )
    if not engines:
        raise UsageError(f"{server} shows no metrics of vLLM.", "Name vLLM itself, not a gateway in front of it.")
    return engines, tuple(_sources(answer, [rank.engine for rank in engines]))


def _sources(answer: httpx.Response, engines: list[EngineId]) -> Iterator[EventSource]:
    """Yield the sources on vLLM's page of them, which has an entry per rank."""
    try:
        page = answer.raise_for_status().json()
        for engine in engines:
            if source := source_of(engine, page.get(str(engine.rank)) or {}):
                yield source
    except (httpx.HTTPError, ValueError, AttributeError, RecursionError):
        return  # before 0.31 there is no such page
