"""The store that the agent searches: checked before any engine starts, then opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.corpus.chroma import (
    MARK_CONTENT,
    REINDEX,
    RESTORE,
    misfit,
    open_client,
    open_collection,
    opened,
    survey,
    telling,
)
from workload.corpus.document import Document, read_document
from workload.corpus.manifest import Manifest, read_manifest
from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from chromadb.api.models.Collection import Collection
    from numpy.typing import NDArray

    from workload.corpus.embedding import Embedder


@dataclass(frozen=True)
class StoreFacts:
    """What the check saw. `space` is cosine, l2 or ip; `manifest` is None for a store that somebody else made."""

    persist_dir: Path
    collection: str
    dimension: int
    count: int
    space: str
    manifest: Manifest | None


def check(persist_dir: Path, collection: str, embedder: Embedder) -> StoreFacts:
    """Make sure that the collection is there, whole, and fits the embedder, which is not loaded for it.

    It ends with one search for a stored vector, since SQLite can be whole while the vector index is not. It adds
    nothing and never upgrades a store.

    Raises:
        UsageError: no store, no collection, not finished, empty, or another dimension, model, count or chromadb.
        DependencyDownError: locked, or corrupt (database or vector index).
        StorageError: the files cannot be read.
    """
    survey(persist_dir, collection)
    manifest = read_manifest(persist_dir, collection)
    with telling(persist_dir, collection), opened(persist_dir) as client:
        opened_collection = open_collection(client, collection)
        facts = StoreFacts(
            persist_dir=persist_dir,
            collection=collection,
            dimension=_dimension(opened_collection, persist_dir),
            count=opened_collection.count(),
            space=_space(opened_collection),
            manifest=manifest,
        )
        _require_fit(facts, (opened_collection.metadata or {}).get(MARK_CONTENT), embedder)
        _require_findable(opened_collection, persist_dir)
    return facts


class Store:
    """A checked collection, open for searching from any thread."""

    def __init__(self, facts: StoreFacts) -> None:
        self.facts = facts
        with telling(facts.persist_dir, facts.collection):
            self._client = open_client(facts.persist_dir)
            self._collection = open_collection(self._client, facts.collection)

    def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
        """Return up to `k` documents nearest to `vector` (shape (dimension,)), nearest first; blocking.

        Raises:
            DependencyDownError: Chroma fails.
        """
        with telling(self.facts.persist_dir, self.facts.collection):
            queries: Any = [vector]
            found: Any = self._collection.query(
                query_embeddings=queries, n_results=k, include=["documents", "metadatas", "distances"]
            )
        columns = (found[column][0] for column in ("ids", "documents", "metadatas", "distances"))
        return [read_document(*row) for row in zip(*columns, strict=True)]

    def close(self) -> None:
        """Let go of the files."""
        self._client.close()


def _dimension(collection: Collection, persist_dir: Path) -> int:
    sample: Any = collection.get(limit=1, include=["documents"])
    if not sample["ids"]:
        raise misfit(persist_dir, collection.name, "documents", "an empty collection", REINDEX)
    if not sample["documents"][0]:
        raise misfit(persist_dir, collection.name, "vectors with texts", "vectors alone", "Name another store.")
    return len(_first_vector(collection))


def _first_vector(collection: Collection) -> NDArray[np.float32]:
    found: Any = collection.get(limit=1, include=["embeddings"])
    vector: NDArray[np.float32] = found["embeddings"][0]
    return vector


def _space(collection: Collection) -> str:
    index = collection.configuration_json.get("hnsw") or {}
    return str(index.get("space", "l2"))


def _require_fit(facts: StoreFacts, mark: str | None, embedder: Embedder) -> None:
    from chromadb import __version__  # noqa: PLC0415 - most of a second, as in `open_client`

    manifest = facts.manifest
    if mark != (manifest.content_hash if manifest else None):
        found = "an index that is not finished" if manifest is None else "another content than its manifest names"
        raise misfit(facts.persist_dir, facts.collection, "a finished index", found, REINDEX)
    pairs: list[tuple[str, object, object]] = [(f"dimension ({embedder.name})", embedder.dimension, facts.dimension)]
    if manifest:
        installed, written = (version.split(".")[0] for version in (__version__, manifest.chromadb_version))
        pairs += [
            ("embedding model", embedder.name, manifest.embedding_model),
            ("number of documents", manifest.count, facts.count),
            ("major version of chromadb", installed, written),
        ]
    for what, expected, found_value in pairs:
        if expected != found_value:
            raise misfit(facts.persist_dir, facts.collection, f"{what} {expected}", str(found_value), REINDEX)


def _require_findable(collection: Collection, persist_dir: Path) -> None:
    # the first record is the oldest: the one that a lost vector file loses, while fresh ones are replayed from SQLite
    queries: Any = [_first_vector(collection)]
    found: Any = collection.query(query_embeddings=queries, n_results=1, include=["distances"])
    if not found["ids"][0]:
        raise DependencyDownError(
            f"Collection {collection.name!r} in {persist_dir}: expected to find a stored vector, found none.", RESTORE
        )
