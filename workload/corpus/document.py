"""Search results, and the protocol of the stores that return them: ours or of any other program.

A write to a store while it is searched is detected: results would no longer come from the checked content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workload.corpus.embedding import Embedder

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])")


@dataclass(frozen=True)
class Document:
    """One search result; `distance` is Chroma's, in the collection's space (cosine: 0 for equal, 2 for opposite)."""

    id: str
    title: str
    text: str
    sentences: tuple[str, ...]
    distance: float


def read_document(id_: str, text: str | None, metadata: Mapping[str, Any] | None, distance: float) -> Document:
    """Read a record. A foreign store may lack sentences and title: then the text is split, and the id is the title."""
    metadata, text = metadata or {}, text or ""
    title = metadata.get("title")
    return Document(
        id=id_,
        title=title if isinstance(title, str) and title else id_,
        text=text,
        sentences=_stored_sentences(metadata.get("sentences")) or tuple(SENTENCE_END.split(text)),
        distance=float(distance),
    )


def _stored_sentences(value: object) -> tuple[str, ...]:
    if not isinstance(value, str):
        return ()
    try:
        sentences = json.loads(value)
    except (ValueError, RecursionError):
        return ()
    whole = isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences)
    return tuple(sentences) if whole else ()


class DocumentStore(Protocol):
    """A vector store; `search` blocks."""

    def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
        """Return at most `k` documents, nearest first."""

    def mark(self) -> Mark | None:
        """Return the store's state, or None if it is unknown now; blocking."""


@dataclass(frozen=True)
class Mark:
    """The state of a collection.

    Attributes:
        writes: the number of its latest write, updates included; None if unknown.
    """

    documents: int
    writes: int | None

    def __str__(self) -> str:
        return f"{self.documents} documents" + (f" after write {self.writes}" if self.writes is not None else "")


class StoreWatch:
    """Compares a store with its state at the last check; the first check is now."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._last = store.mark()

    def change(self) -> str | None:
        """Return how the store has changed since the last check; None if it has not, or if unknown; blocking."""
        before, now = self._last, self._store.mark()
        self._last = now or before
        return f"{before}, then {now}" if before and now and before != now else None


Retrieve = Callable[[str], frozenset[str]]
"""Maps a query to the ids of the documents found."""


def retriever(embedder: Embedder, store: DocumentStore, k: int) -> Retrieve:
    """Return the retrieval of the agent's node `retrieve`, for use after the load."""

    def retrieve(query: str) -> frozenset[str]:
        return frozenset(document.id for document in store.search(embedder.encode([query])[0], k))

    return retrieve
