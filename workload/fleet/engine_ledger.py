"""The ledger of one engine's calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.engine.kv_events import RANKS, events_config, has_events, has_sessions
from workload.engine.profile import server_flags
from workload.fleet.event_source import source_of
from workload.fleet.events import EngineId
from workload.fleet.ledger_thread import LedgerThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.engine.launcher import RunningEngine


def ledger_of(engine: RunningEngine, on_failure: Callable[[], object] = lambda: None) -> LedgerThread | None:
    """Return the ledger of an engine's calls; None if it caches no prefixes, or does not say how.

    Events are taken from an engine whose command line shows where it publishes them; several ranks publish on several
    ports, of which the command line shows one, so they count as silent.
    """
    facts = engine.facts
    if not facts.prefix_caching or not facts.block_size:
        return None
    is_one = (server_flags(engine.argv or ()) or {}).get(RANKS, "1") == "1"
    name = EngineId(engine.endpoint)
    source = source_of(name, events_config(engine.argv), may_be_socket=True) if is_one else None
    return LedgerThread(
        {name: facts.block_size},
        [source] if source and has_events(facts.version) else [],
        on_failure=on_failure,
        names_calls=has_sessions(facts.version),
    )
