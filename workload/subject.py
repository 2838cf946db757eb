"""The system under test on one running engine: the agent with its instruments, served for Prometheus to scrape."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import openai
from prometheus_client import CollectorRegistry

from exporter.agent import AgentMetrics
from exporter.overlap import BusySeconds
from exporter.server import MetricsServer
from exporter.timeline import NodeActivity
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm
from workload.agent.metering import Meter
from workload.agent.nodes import Hop2RagNodes
from workload.agent.replay import ReplayLlm
from workload.agent.reuse import ReuseOrder
from workload.agent.state import LLM_NODES, NODES
from workload.drive import Driver
from workload.engine.probe import ask_canary
from workload.gate import EngineGate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from workload.agent.replay import Script
    from workload.corpus.embedding import Embedder
    from workload.corpus.store import Store
    from workload.engine.launcher import RunningEngine
    from workload.journal import Journal
    from workload.settings import Settings

CONNECT_TIMEOUT_SECONDS = 5.0

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Subject:
    """The agent, ready to be driven, and the address (host:port) where its metrics are served.

    `llm` is the model itself, also where the agent replays a record.
    """

    driver: Driver
    llm: Llm
    meter: Meter
    busy: BusySeconds
    registry: CollectorRegistry
    address: str

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run `work` in an event loop of its own, once, and close the connections to the engine in it."""

        async def run() -> ResultT:
            async with self.llm.client:
                return await work

        return asyncio.run(run())


@contextmanager
def subject(
    engine: RunningEngine,
    settings: Settings,
    store: Store,
    embedder: Embedder,
    journal: Journal | None = None,
    script: Script | None = None,
    reach_blocks: int | None = None,
) -> Iterator[Subject]:
    """Build the agent for a running engine, replaying `script` if there is one.

    `reach_blocks` bounds what the reuse bound remembers, in KV blocks.

    Its metrics are served on a free port of 127.0.0.1 while the block lasts.

    The instruments are new each time: a counter of one engine never goes on under the name of the next.
    """
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry, NODES, LLM_NODES)
    metrics.engine.version = engine.facts.version
    metrics.engine.kv_pool_bytes = engine.facts.kv_pool_bytes
    metrics.engine.kv_block_bytes = engine.facts.kv_block_bytes
    busy = BusySeconds()
    registry.register(busy)
    activity = NodeActivity(lambda: time.time_ns() // 1_000_000)
    reuse = ReuseOrder(engine.facts.block_size, reach_blocks)
    meter = Meter(metrics, activity, busy, reuse, journal, settings.record_prompts)
    client = openai.AsyncOpenAI(
        base_url=f"{engine.endpoint}/v1",
        api_key="none",
        max_retries=0,
        timeout=openai.Timeout(settings.request_timeout, connect=CONNECT_TIMEOUT_SECONDS),
        # As in `engine.endpoint`: a proxy would be measured too, and a redirect would leave the checked endpoint.
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False, follow_redirects=False),
    )
    llm = Llm(client, engine.facts.model, settings.request_timeout, seed=settings.seed)
    asked = llm if script is None else ReplayLlm(**vars(llm), script=script)
    nodes = Hop2RagNodes(asked, embedder, store, settings.k, settings.max_hops, settings.layout)
    probe = partial(ask_canary, engine.endpoint, engine.facts.model)
    gate = EngineGate(probe, settings.engine_patience, breaker=llm.breaker)
    server = MetricsServer(registry, timeline=activity.expose, title="Hop2Rag agent")
    address = server.start()
    try:
        yield Subject(Driver(Hop2Rag(nodes), meter, gate), llm, meter, busy, registry, address)
    finally:
        server.close()
