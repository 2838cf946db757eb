"""The store that the agent searches: it is checked before any engine starts, then opened."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.corpus.chroma import (
    REINDEX,
    connect,
    explained,
    misfit,
    nearest,
    open_client,
    open_collection,
    survey,
)
from workload.corpus.document import Document, Mark
from workload.corpus.manifest import IndexManifest, read_manifest
from workload.corpus.memory import available_bytes, needed_bytes, require_memory
from workload.corpus.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from workload.corpus.embedding import Embedder


# Chroma numbers the writes of each collection; this table has the latest one that its documents include.
MARK = """
SELECT (SELECT count(*) FROM embeddings WHERE segment_id = segments.id), max_seq_id.seq_id
FROM segments JOIN collections ON segments.collection = collections.id
LEFT JOIN max_seq_id ON max_seq_id.segment_id = segments.id
WHERE collections.name = ? AND segments.scope = 'METADATA'
"""


@dataclass(frozen=True, kw_only=True)
class StoreFacts:
    """Facts of a checked store. `space` is cosine, l2 or ip; `manifest` is None for a foreign store."""

    persist_dir: Path
    collection: str
    dimension: int
    count: int
    space: str
    manifest: IndexManifest | None


def check(
    persist_dir: Path, collection: str, embedder: Embedder, available: Callable[[], int] = available_bytes
) -> StoreFacts:
    """Check that the collection exists, is undamaged, and fits the embedder, which need not be loaded.

    The check includes one search in a child process, because the vector index can be damaged while SQLite is not. It
    never changes or upgrades a store. `available` returns the free memory in bytes, for the vector index.

    Raises:
        UsageError: there is no such store or collection, it is not finished or empty, or its dimension, model, count or
            chromadb differs.
        DependencyDownError: the store is locked, or its database or vector index is corrupt.
        MissingPartError: there is too little memory for its vector index.
        StorageError: the files cannot be read.
    """
    survey(persist_dir, collection)
    with explained(persist_dir, collection):
        require_memory(persist_dir, collection, needed_bytes(persist_dir, collection), available)
    manifest = read_manifest(persist_dir, collection)
    found = probe(persist_dir, collection)
    if found.dimension is None:
        raise misfit(persist_dir, collection, "documents", "an empty collection", REINDEX)
    if not found.has_texts:
        raise misfit(persist_dir, collection, "vectors with texts", "vectors alone", "Name another store.")
    facts = StoreFacts(
        persist_dir=persist_dir,
        collection=collection,
        dimension=found.dimension,
        count=found.count,
        space=found.space,
        manifest=manifest,
    )
    _require_fit(facts, found.mark, embedder)
    return facts


class Store:
    """A checked and open collection, which any thread may search."""

    def __init__(self, facts: StoreFacts) -> None:
        self.facts = facts
        with explained(facts.persist_dir, facts.collection):
            self._client = open_client(facts.persist_dir)
            self._collection = open_collection(self._client, facts.collection)

    def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
        """Return up to `k` documents nearest to `vector` (shape (dimension,)), nearest first; blocking.

        Raises:
            DependencyDownError: Chroma fails.
        """
        with explained(self.facts.persist_dir, self.facts.collection):
            return nearest(self._collection, vector, k)

    def mark(self) -> Mark | None:
        """Return the collection's state in SQLite, which includes writes of other programs; None while it is busy."""
        facts = self.facts
        try:
            with closing(connect(facts.persist_dir)) as database:
                (row,) = database.execute(MARK, (facts.collection,)).fetchall()
        except (sqlite3.Error, OSError, ValueError):
            return None
        return Mark(*row)

    def close(self) -> None:
        """Close the files."""
        self._client.close()


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
