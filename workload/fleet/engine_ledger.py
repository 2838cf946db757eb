"""The ledger of the calls of one engine, or of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from workload.engine.endpoint import open_client
from workload.engine.kv_events import RANKS, events_config, has_events, has_sessions
from workload.engine.probe import canary_body
from workload.engine.profile import server_flags
from workload.errors import Hop2RagError
from workload.fleet.discovery import discover
from workload.fleet.event_source import source_of
from workload.fleet.events import EngineId
from workload.fleet.ledger_thread import LedgerThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.engine.launcher import RunningEngine
    from workload.fleet.event_source import EventSource


def ledger_of(engine: RunningEngine, on_failure: Callable[[], object] = lambda: None) -> LedgerThread | None:
    """Return the ledger of an engine's calls; None if it caches no prefixes, or does not say how.

    Events are taken from an engine whose command line shows where it publishes them. The ranks of a server and the
    servers behind a router say it themselves from 0.31 on.
    """
    facts = engine.facts
    if not facts.prefix_caching or not facts.block_size:
        return None
    flags = server_flags(engine.argv or ()) or {}
    name = EngineId(engine.endpoint)
    sizes, sources = {name: facts.block_size}, [source_of(name, events_config(engine.argv), may_be_socket=True)]
    if engine.replicas or flags.get(RANKS, "1") != "1":
        sizes, sources = _fleet(engine, facts.block_size)
    return LedgerThread(
        sizes,
        [source for source in sources if source and has_events(facts.version)],
        on_failure=on_failure,
        names_calls=has_sessions(facts.version),
        servers=_fingerprints(engine),
    )


def _fleet(engine: RunningEngine, block_size: int) -> tuple[dict[EngineId, int], list[EventSource | None]]:
    """Return the engines behind an endpoint with their block sizes, and where they publish.

    One that cannot be asked is an engine that is silent: its calls are unknown, never guessed.
    """
    try:
        found = discover(engine.endpoint, replicas=engine.replicas)
    except Hop2RagError:
        return {EngineId(server): block_size for server in engine.servers}, []
    return {rank.engine: rank.block_size or block_size for rank in found.engines}, [*found.sources]


def _fingerprints(engine: RunningEngine) -> dict[str, str]:
    """Return the server of each `system_fingerprint`; empty unless each server has one of its own.

    vLLM has one where it was started with `--fingerprint-mode custom --fingerprint-value NAME`.
    """
    found: dict[str, str] = {}
    for server in engine.replicas:
        try:
            with open_client(server, key=engine.key) as client:
                answer = client.post("/v1/completions", json=canary_body(engine.facts.model)).raise_for_status().json()
            name = answer.get("system_fingerprint")
        except (httpx.HTTPError, ValueError, AttributeError, RecursionError):
            name = None
        if isinstance(name, str):
            found[name] = server
    return found if len(found) == len(engine.replicas) else {}
