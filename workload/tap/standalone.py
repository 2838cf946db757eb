"""`hop2rag tap`: the tap of a vLLM that any client may use, with metrics of its own."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from yarl import URL

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import OTHER
from exporter.agent.learned import LearnedMetrics
from exporter.agent.recorder import Recorder
from exporter.timeline import NodeActivity
from workload.agent.metering import Meter
from workload.agent.reuse_order import ReuseOrder
from workload.engine.attach import LOOPBACK
from workload.engine.endpoint import open_client, parse_endpoint
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.errors import DependencyDownError, UsageError
from workload.fleet.engine_ledger import ledger_of
from workload.services.listener import find_listener
from workload.tap.prompt_log import PromptLog
from workload.tap.proxy import Proxy
from workload.tap.serving import Tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from workload.agent.calls import CallMeter
    from workload.tap.proxy import Told

MAX_NODES = 32
CAPACITY_BLOCKS = 1 << 20
"""Blocks remembered by the reuse bound, some 150 MB; beyond it the bound is that of the latest ones."""


class CallMetrics(LearnedMetrics):
    """The instruments of calls alone: a proxy sees no questions and no visits, so they have no series."""

    def _start_at_zero(self, nodes: Sequence[str], llm_nodes: Sequence[str]) -> None: ...


@contextmanager
def open_tap(upstream: str, *, port: int, prompts: Path | None, key: str | None = None) -> Iterator[Tap]:
    """Serve a tap of the vLLM at `upstream` inside the block; with `prompts`, a file, its token ids are kept there.

    Raises:
        UsageError: the address is not allowed, or speaks HTTP/1.0; the port is taken.
        DependencyDownError: no vLLM answers there.
        StorageError: the file cannot be written.
    """
    endpoint = parse_endpoint(upstream)
    with open_client(endpoint, key=key) as client:
        facts = read_facts(client)
        if facts.version is None:
            raise DependencyDownError(f"{endpoint} shows no vLLM release at /version.", "Name a vLLM in --upstream.")
        if client.get("/version").http_version == "HTTP/1.0":
            why = f"{endpoint} speaks HTTP/1.0, in which a cut answer looks complete."
            raise UsageError(why, "Name vLLM's own address in --upstream.")
    listener = find_listener(URL(endpoint).port or 80) if URL(endpoint).host in LOOPBACK else None
    engine = RunningEngine(endpoint, facts, listener.argv if listener else None, listener.pid if listener else None)
    registry = CollectorRegistry()
    metrics = CallMetrics(registry, (), (), MAX_NODES, lambda _: None)
    registry.unregister(metrics.question_duration)  # the only histogram without labels, so it would be there at zero
    metrics.engine.version = facts.version
    metrics.engine.kv_pool_bytes, metrics.engine.kv_block_bytes = facts.kv_pool_bytes, facts.kv_block_bytes
    busy, activity = BusySeconds(known=()), NodeActivity(lambda: time.time_ns() // 1_000_000)
    recorder = Recorder(metrics=metrics, activity=activity, busy=busy)
    reuse = ReuseOrder(facts.block_size, CAPACITY_BLOCKS, adapter=facts.adapter)
    with ExitStack() as stack:
        ledger = stack.enter_context(ledger_of(engine) or nullcontext())
        meter = Meter(recorder, reuse, ledger=ledger)
        log = stack.enter_context(PromptLog(prompts)) if prompts else None

        def opens(told: Told) -> AbstractContextManager[CallMeter]:
            return meter.question("tap", OTHER, told.salt).call(told.node, 1)

        yield stack.enter_context(Tap(Proxy(endpoint, opens, log), port, registry))
