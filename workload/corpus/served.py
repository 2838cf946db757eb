"""A collection on a Chroma server: indexed over HTTP once, then searched."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import httpx

from workload.corpus.chroma import MARK_CONTENT, MARK_MODEL, nearest, open_collection
from workload.corpus.document import Document, Mark
from workload.corpus.index import fill, target_collection
from workload.corpus.manifest import content_hash
from workload.errors import DependencyDownError, Hop2RagError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection
    from numpy.typing import NDArray
    from rich.progress import Progress

    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Paragraph

MARK_COUNT = "hop2rag_count"
"""Written last: it marks a complete index, like the manifest of a store on disk."""

TIMEOUT_SECONDS = 60.0
"""Chroma's client has no time-out of its own; its server takes a second for a batch of passages."""


class ServedStore:
    """An open collection of a Chroma server, which any thread may search.

    Raises:
        DependencyDownError: the server does not answer, or has no such collection.
    """

    def __init__(self, url: str, collection: str) -> None:
        self._url, self._name = url, collection
        with _explained(url, collection):
            self._client = open_server(url)
            self._collection = open_collection(self._client, collection)

    def search(self, vector: NDArray[np.float32], k: int) -> list[Document]:
        """Return up to `k` documents nearest to `vector` (shape (dimension,)), nearest first; blocking.

        Raises:
            DependencyDownError: the server does not answer.
        """
        with _explained(self._url, self._name):
            return nearest(self._collection, vector, k)

    def mark(self) -> Mark | None:
        """Return the collection's number of documents, all that a server says; None if it does not answer."""
        try:
            with _explained(self._url, self._name):
                return Mark(self._collection.count(), None)
        except Hop2RagError:
            return None

    def close(self) -> None:
        """Close the connections."""
        close_server(self._client)


def build_served(
    paragraphs: Sequence[Paragraph],
    url: str,
    collection: str,
    embedder: Embedder,
    *,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> int:
    """Embed paragraphs that the server's collection lacks, and return the number of all paragraphs.

    An interrupted build is resumed. A finished collection of other content is never replaced.

    Raises:
        UsageError: a collection of other content, or of another program, has the name.
        DependencyDownError: the server does not answer, or lost documents.
    """
    wanted = {paragraph.id: paragraph for paragraph in paragraphs}
    mark: dict[str, str] = {MARK_CONTENT: content_hash(paragraphs), MARK_MODEL: embedder.name}
    with _explained(url, collection), served(url) as client:
        target = target_collection(client, collection, mark)
        found = target.metadata or {}
        if {key: found.get(key) for key in mark} != mark:
            raise UsageError(
                f"Collection {collection!r} on {url} has other content.", "Name another one with --collection."
            )
        if found.get(MARK_COUNT) != len(wanted) or target.count() != len(wanted):
            fill(target, wanted, embedder, min(batch_size, client.get_max_batch_size()), progress)
            _require_all(target, len(wanted), url)
            target.modify(metadata={**mark, MARK_COUNT: len(wanted)})
    return len(wanted)


def open_server(url: str) -> Client:
    """Return a client of the server at `url`, without telemetry; it connects at once."""
    # imported late: it takes most of a second, which commands without a store do not need
    import chromadb  # noqa: PLC0415
    from chromadb.config import Settings  # noqa: PLC0415

    # With a whole URL, chromadb respects path and brackets, and uses the scheme's port by default.
    client = chromadb.HttpClient(host=url, ssl=url.startswith("https"), settings=Settings(anonymized_telemetry=False))
    for session in _sessions(client):
        session.timeout = httpx.Timeout(TIMEOUT_SECONDS)
    return cast("Client", client)


def close_server(client: Client) -> None:
    """Close the client's connections, which its own `close` leaves open."""
    client.close()
    for session in _sessions(client):
        session.close()


@contextmanager
def served(url: str) -> Iterator[Client]:
    """Yield a client of the server at `url` that is closed at the end."""
    client = open_server(url)
    try:
        yield client
    finally:
        close_server(client)


def _sessions(client: Any) -> Iterator[httpx.Client]:
    """Yield the client's HTTP sessions: chromadb has no setting for a time-out and does not close them."""
    for part in (client, client._admin_client):  # noqa: SLF001
        yield part._server._session  # noqa: SLF001


def _require_all(target: Collection, count: int, url: str) -> None:
    if (found := target.count()) != count:
        raise DependencyDownError(
            f"Collection {target.name!r} on {url}: expected {count} documents, found {found}.", "Run it again."
        )


@contextmanager
def _explained(url: str, collection: str) -> Iterator[None]:
    from chromadb.errors import ChromaError  # noqa: PLC0415 - as in `open_server`

    try:
        yield
    except Hop2RagError:
        raise
    except (ChromaError, httpx.HTTPError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DependencyDownError(
            f"Chroma at {url}, collection {collection!r}: {reason}.", "Check that it is up; see its log."
        ) from error
