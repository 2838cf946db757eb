"""Finds documents for a query: embeds it, then searches, on the event loop, in threads, or batched over workers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workload.corpus.embedding import Embedder, QueryBatcher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workload.agent.metering import QuestionMeter
    from workload.corpus.document import Document, DocumentStore
    from workload.settings import Execution


@dataclass(frozen=True)
class Retrieval:
    """The agent's retrieval.

    Args:
        execution: `threads` lets other workers continue meanwhile; `blocking` blocks them, as a synchronous agent does;
            `batched` embeds queries that wait at the same time together.
        delay_seconds: added to each search, to simulate a remote store.
    """

    embedder: Embedder
    store: DocumentStore
    k: int = 10
    execution: Execution = "threads"
    delay_seconds: float = 0.0
    _batcher: QueryBatcher = field(init=False, repr=False, compare=False)
    _searchers: ThreadPoolExecutor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Create the batcher and the searchers; `object.__setattr__` bypasses the frozen dataclass."""
        object.__setattr__(self, "_batcher", QueryBatcher(self.embedder))
        # Dedicated threads: a slow store delays no embedding, and each thread keeps its connection.
        object.__setattr__(self, "_searchers", ThreadPoolExecutor(thread_name_prefix="search"))

    async def find(self, query: str, hop: int, meter: QuestionMeter) -> list[Document]:
        """Return the documents for a query; meter the stages.

        Raises:
            Hop2RagError: the embedder or the store failed.
        """
        with meter.stage("embed", hop):
            vector = await self.embed(query)
        with meter.stage("search", hop):
            return await self.search(vector)

    async def embed(self, query: str) -> NDArray[np.float32]:
        """Return the query's vector, shape (dimension,)."""
        if self.execution == "batched":
            return await self._batcher.encode(query)
        if self.execution == "blocking":
            vectors = self.embedder.encode([query])
        else:
            vectors = await asyncio.to_thread(self.embedder.encode, [query])
        vector: NDArray[np.float32] = vectors[0]
        return vector

    async def search(self, vector: NDArray[np.float32]) -> list[Document]:
        """Return the documents nearest to a vector."""
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.execution == "blocking":
            return self.store.search(vector, self.k)
        return await asyncio.get_running_loop().run_in_executor(self._searchers, self.store.search, vector, self.k)
