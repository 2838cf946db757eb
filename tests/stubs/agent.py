"""The agent on stubs: an embedder and a store without a model or a disk, and everything that meters."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import AgentMetrics
from exporter.agent.recorder import Recorder
from exporter.agent.spans import NO_TRACING
from exporter.timeline import NodeActivity
from workload.agent.backoff import Backoff, Breaker
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm, llm_client
from workload.agent.metering import Meter
from workload.agent.nodes import Hop2RagNodes
from workload.agent.retrieval import Retrieval
from workload.agent.reuse_order import ReuseOrder
from workload.agent.state import LLM_NODES, NODES
from workload.corpus.document import Document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import openai
    from numpy.typing import NDArray

    from exporter.agent.spans import AgentTracer
    from workload.corpus.document import Mark
    from workload.record.journal import Journal
    from workload.settings import Layout

DIMENSION = 4
SUBJECTS = ("Mara Vell", "Orin Tasp", "the Glass Harbour", "Senna Dole", "the Tin Choir", "Pell", "Quay", "Ruan")


def document(number: int, text: str | None = None) -> Document:
    """Return a document about something, of two sentences."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    sentences = (f"{subject} was founded in {1900 + number}.", f"It lies near the river of {subject} {number}.")
    return Document(f"d{number}", f"Title {number}", text or " ".join(sentences), sentences, 0.1)


@dataclass
class StubEmbedder:
    """Vectors that follow from the text; remembers what it was asked."""

    name: str = "stub"
    dimension: int = DIMENSION
    texts: list[str] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (n, 4)."""
        self.texts += texts
        seeds = [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in texts]
        vectors = np.array([np.random.default_rng(seed).normal(size=DIMENSION) for seed in seeds], dtype=np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@dataclass
class StubStore:
    """Hands out documents: those given hop by hop, then for ever the last of them; or fails."""

    hops: Sequence[Sequence[Document]] = (tuple(document(number) for number in range(10)),)
    searches: int = 0
    failure: Exception | None = None
    state: Mark | None = None

    def mark(self) -> Mark | None:
        """Return the state that was set."""
        return self.state

    def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
        """Return the next hop's documents."""
        assert vector.shape == (DIMENSION,)
        if self.failure:
            raise self.failure
        found = self.hops[min(self.searches, len(self.hops) - 1)]
        self.searches += 1
        return list(found[:k])


@dataclass
class Bench:
    """Instruments around an agent, and the registry that they are read from."""

    registry: CollectorRegistry
    meter: Meter

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample's value, None when there is none."""
        return self.registry.get_sample_value(name, labels)


def bench(
    block_size: int | None = 16,
    journal: Journal | None = None,
    *,
    keeps_text: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    wall: Callable[[], float] = time.time,
    tracer: AgentTracer = NO_TRACING,
) -> Bench:
    """Return fresh instruments."""
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry, NODES, LLM_NODES)
    recorder = Recorder(
        metrics=metrics, activity=NodeActivity(lambda: 0), busy=BusySeconds(), clock=clock, tracer=tracer
    )
    return Bench(registry, Meter(recorder, ReuseOrder(block_size), journal, keeps_text, wall))


def client_of(url: str, timeout: float = 10.0) -> openai.AsyncOpenAI:
    """Return the client as the workload configures it."""
    return llm_client(url, timeout)


def agent_of(
    client: openai.AsyncOpenAI,
    store: StubStore | None = None,
    max_hops: int = 3,
    layout: Layout = "original",
    timeout: float = 10.0,
    breaker: Breaker | None = None,
) -> Hop2Rag:
    """Return the compiled agent on a client of the stub server; a refused call waits for a tenth of what is usual."""
    llm = Llm(
        client,
        "stub",
        timeout_seconds=timeout,
        backoff=Backoff(first_seconds=0.05),
        breaker=breaker or Breaker(),
    )
    return Hop2Rag(Hop2RagNodes(llm, Retrieval(StubEmbedder(), store or StubStore()), max_hops=max_hops, layout=layout))
