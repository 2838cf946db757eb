"""The system under test on one running engine: the agent with its instruments, served for Prometheus to scrape."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import metering_failures
from exporter.agent.recorder import Recorder
from exporter.timeline import NodeActivity
from exporter.web.server import MetricsServer
from workload.agent.context import EVERYTHING, Context
from workload.agent.graph import Hop2Rag
from workload.agent.instruments import Instruments, of_any_app, of_hop2rag
from workload.agent.llm import Llm, llm_client
from workload.agent.metering import Meter
from workload.agent.nodes import Hop2RagNodes
from workload.agent.prefetch import Planted, Prefetch
from workload.agent.priming import Primer
from workload.agent.replay import ReplayLlm, Script
from workload.agent.retrieval import Retrieval
from workload.agent.reuse_order import ReuseOrder
from workload.agent.sleep import EngineSleep
from workload.app.foreign import foreign_app
from workload.corpus.tokenizer import token_counter
from workload.engine.endpoint import open_client
from workload.engine.probe import ask_canary
from workload.engine.profile import parse_version
from workload.fleet.engine_ledger import ledger_of
from workload.harness.driver import Driver
from workload.harness.health_gate import EngineGate
from workload.harness.process_memory import settled_heap
from workload.services.targets import MEASURED, WARM_UP, PhaseLabel
from workload.services.tracing import exported_spans

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from prometheus_client import CollectorRegistry

    from workload.agent.graph import App
    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.engine.launcher import RunningEngine
    from workload.record.journal import Journal
    from workload.settings import AgentOptions, Settings

EVERY_INTERFACE = {"0.0.0.0", "[::]"}  # noqa: S104 - only where the user says so
# The first vLLM release that takes `structured_outputs` in a request.
FORCED_SINCE = (0, 11, 0)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class SystemUnderTest:
    """The agent, ready to be driven, and the address (host:port) where its metrics are served.

    `llm` is the model itself, also if the agent replays a recorded run. Questions to `warming` are in the journal, but
    only in the metrics of the warm-up.
    """

    driver: Driver
    warming: Driver
    llm: Llm
    busy: BusySeconds
    instruments: Instruments
    address: str

    @property
    def meter(self) -> Meter:
        """The meter of the measured load."""
        return self.driver.meter

    @property
    def registry(self) -> CollectorRegistry:
        """The instruments of the measured load."""
        return self.instruments.registries[MEASURED]

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run `work` in a new event loop and close the connections to the engine in that loop. Call it once.

        Objects that exist before are left out of garbage collection meanwhile.
        """

        async def run() -> ResultT:
            async with self.llm.client:
                return await work

        with settled_heap():
            return uvloop.run(run())


@contextmanager
def serve_agent(
    engine: RunningEngine,
    settings: Settings,
    store: DocumentStore,
    embedder: Embedder,
    *,
    journal: Journal | None = None,
    script: Script | None = None,
    reuse: ReuseOrder | None = None,
) -> Iterator[SystemUnderTest]:
    """Build the agent for a running engine, replaying `script` if there is one.

    Its metrics are served at `listen` of the settings, by default on a free port of 127.0.0.1, and its spans are
    exported if the settings name a collector. `reuse` is the reuse bound of the calls that this engine has answered
    before.

    The instruments are new each time, so the counters of one engine never continue under the next.
    """
    load, agent, places = settings.load, settings.agent, settings.places
    busy = BusySeconds()
    metrics_of = of_any_app if settings.app.app else of_hop2rag
    failures = metering_failures(None)
    instruments = Instruments(engine.facts, busy, failures, metrics_of=metrics_of)
    activity = NodeActivity(lambda: time.time_ns() // 1_000_000)
    reuse = reuse or ReuseOrder(engine.facts.block_size, adapter=engine.facts.adapter)
    client = llm_client(engine.endpoint, load.request_timeout, engine.key)
    llm = Llm(client, engine.facts.model, timeout_seconds=load.request_timeout, seed=load.seed)
    asked = llm if script is None else replaying(llm, script, engine)
    control = open_client(engine.endpoint, load.request_timeout, key=engine.key)
    sleep = EngineSleep(control) if agent.sleeping else None
    tokenizer = settings.engine.tokenizer or Path(engine.facts.model_path or "")
    nodes = nodes_of(agent, asked, embedder, store, script=script, seed=load.seed, tokenizer=tokenizer, sleep=sleep)
    probe = partial(ask_canary, engine.endpoint, engine.facts.model, key=engine.key)
    gate = EngineGate(probe, load.engine_patience, breaker=llm.breaker)
    host, _, port = places.listen.rpartition(":")
    server = MetricsServer(
        instruments,
        timeline=activity.expose,
        host=host.strip("[]"),
        port=int(port),
        title="Hop2Rag agent",
        has_exemplars=places.otlp_endpoint is not None,
    )
    address = reachable(server.start())
    try:
        with (
            exported_spans(places.otlp_endpoint) as tracer,
            ledger_of(engine, failures.inc) or nullcontext() as ledger,
            ExitStack() as stack,
        ):
            subject: App = Hop2Rag(nodes)
            if settings.app.app:
                theirs = foreign_app(settings.app.app, agent.app_option, engine, reuse, ledger)
                subject = stack.enter_context(theirs)
            drivers: dict[PhaseLabel, Driver] = {}
            for phase, metrics in instruments.metrics.items():
                recorder = Recorder(metrics=metrics, activity=activity, busy=busy, tracer=tracer)
                meter = Meter(recorder, reuse, journal, load.record_prompts, ledger=ledger)
                primer = Primer(llm, meter, agent.layout) if agent.primed else None
                drivers[phase] = Driver(subject, meter, gate, primer)
            yield SystemUnderTest(
                driver=drivers[MEASURED],
                warming=drivers[WARM_UP],
                llm=llm,
                busy=busy,
                instruments=instruments,
                address=address,
            )
    finally:
        server.close()
        control.close()


def nodes_of(
    options: AgentOptions,
    llm: Llm,
    embedder: Embedder,
    store: DocumentStore,
    *,
    script: Script | None,
    seed: int,
    tokenizer: Path,
    sleep: EngineSleep | None = None,
) -> Hop2RagNodes:
    """Return the agent's nodes with its options; `tokenizer` is the folder of the model that counts a context budget.

    Raises:
        MissingPartError: there is a context budget and no tokenizer in that folder.
    """
    retrieval = Retrieval(embedder, store, options.k, options.retrieval, options.retrieval_delay)
    planted = Planted(script or {}, options.draft_accuracy, seed) if options.prefetch == "planted" else None
    prefetch = Prefetch(retrieval, options.prefetch, planted) if options.prefetch != "off" else None
    context = EVERYTHING
    if options.context != "all":
        count = token_counter(tokenizer)
        context = Context(options.context, options.context_budget, options.max_hops, count)
    return Hop2RagNodes(
        llm,
        retrieval,
        max_hops=options.max_hops,
        layout=options.layout,
        context=context,
        prefetch=prefetch,
        sleep=sleep,
    )


def replaying(llm: Llm, script: Script, engine: RunningEngine) -> ReplayLlm:
    """Return a model that replays a recorded run, its text forced if the engine can and has no random weights."""
    can_force = parse_version(engine.facts.version or "0.0.0") >= FORCED_SINCE
    is_forced = can_force and not engine.has_random_weights
    return ReplayLlm(**vars(llm), script=script, is_forced=is_forced)


def reachable(address: str) -> str:
    """Return where others reach a server that listens on `address`; on all interfaces, that is this machine's name."""
    host, _, port = address.rpartition(":")
    return f"{socket.gethostname()}:{port}" if host in EVERY_INTERFACE else address
