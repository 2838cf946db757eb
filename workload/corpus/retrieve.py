"""The agent's retrieval after the load: the same embedding and search, outside the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder

Retrieve = Callable[[str], frozenset[str]]
"""Maps a query to the ids of the documents found."""


def retriever(embedder: Embedder, store: DocumentStore, k: int) -> Retrieve:
    """Return the retrieval of the agent's node `retrieve`, for use after the load."""

    def retrieve(query: str) -> frozenset[str]:
        return frozenset(document.id for document in store.search(embedder.encode([query])[0], k))

    return retrieve
