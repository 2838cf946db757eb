"""Opens a Chroma store safely: SQLite checks it first, and failures become one line."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workload.corpus.document import Document, read_document
from workload.errors import DependencyDownError, Hop2RagError, StorageError, UsageError
from workload.files.enclosed import refuse_ways_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection
    from numpy.typing import NDArray


DATABASE = "chroma.sqlite3"
# The files that we or Chroma open in a store's folder; the folders are Chroma's vector indexes.
PARTS = re.compile(r"chroma\.sqlite3.*|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\.hop2rag-.*|.*\.manifest\.json.*")
MIN_FREE_BYTES = 16 * 2**20
LOCK_WAIT_SECONDS = 3.0  # Chroma itself waits a minute for a lock, silently
MARK_CONTENT, MARK_MODEL = "hop2rag_content", "hop2rag_model"  # metadata of a collection that `index.build` made
REINDEX = "Run `hop2rag corpus index` to make it, or name another store."
RESTORE = "Restore it from a copy, or delete it and run `hop2rag corpus index`."
BUSY = "Wait for the program that uses it, or stop it."


def misfit(persist_dir: Path, collection: str, expected: str, found: str, remedy: str) -> UsageError:
    """Return the error for a store that works but does not match the requirements."""
    return UsageError(f"Collection {collection!r} in {str(persist_dir)!r}: expected {expected}, found {found}.", remedy)


def survey(persist_dir: Path, collection: str) -> None:
    """Check a store without opening Chroma, which could create, upgrade or wait for it.

    Raises:
        UsageError: there is no such store or collection, or it has the schema of another chromadb.
        DependencyDownError: the database is locked or corrupt.
        StorageError: it cannot be read.
    """
    with explained(persist_dir, collection):
        _require_database(persist_dir, collection)
        refuse_ways_out(persist_dir, PARTS)
        with closing(connect(persist_dir)) as database:
            _require_schema(database, persist_dir, collection)
            names = [name for (name,) in database.execute("SELECT name FROM collections ORDER BY name")]
    if collection not in names:
        listed = ", ".join(names[:8]) if names else "none"
        raise misfit(persist_dir, collection, "a collection of that name", f"collections: {listed}", REINDEX)


def survey_schema(persist_dir: Path, collection: str) -> None:
    """Check that a database is undamaged, not locked, and has the schema of the installed chromadb.

    Raises:
        UsageError, DependencyDownError, StorageError: as `survey`.
    """
    with explained(persist_dir, collection), closing(connect(persist_dir)) as database:
        _require_schema(database, persist_dir, collection)


def open_client(persist_dir: Path) -> Client:
    """Open the store at `persist_dir` without telemetry; Chroma creates a missing one. Call `survey` first."""
    # imported late: it takes most of a second, which commands without a store do not need
    import chromadb  # noqa: PLC0415
    from chromadb.config import Settings  # noqa: PLC0415

    # its declared type lacks `close`
    client = chromadb.PersistentClient(path=str(persist_dir), settings=Settings(anonymized_telemetry=False))
    return cast("Client", client)


def open_collection(client: Client, collection: str) -> Collection:
    """Return a collection without loading the embedding function that it may name."""
    return client.get_collection(collection, embedding_function=None)


def nearest(collection: Collection, vector: NDArray[np.float32], k: int) -> list[Document]:
    """Return up to `k` documents nearest to `vector` (shape (dimension,)), nearest first. Raises what Chroma raises."""
    queries: Any = [vector]
    columns: Any = ["documents", "metadatas", "distances"]
    found: Any = collection.query(query_embeddings=queries, n_results=k, include=columns)
    return [read_document(*row) for row in zip(*(found[name][0] for name in ("ids", *columns)), strict=True)]


@contextmanager
def explained(persist_dir: Path, collection: str) -> Iterator[None]:
    """Turn failures of SQLite, Chroma and the disk into one line that names the collection.

    Raises:
        DependencyDownError: the store is locked or corrupt, or Chroma refuses it for another reason.
        StorageError: the disk is full, or the files are not ours to read or write.
    """
    from chromadb.errors import ChromaError  # noqa: PLC0415 - as in `open_client`

    try:
        yield
    except Hop2RagError:
        raise
    except OSError as error:
        raise StorageError(f"Collection {collection!r}: {error}.", "Check the disk and the permissions.") from error
    except (sqlite3.Error, ChromaError, ValueError) as error:
        raise unusable(persist_dir, collection, str(error)) from error


# words of SQLite's message, from Python or from Chroma -> (found, remedy, class)
_SYMPTOMS: tuple[tuple[tuple[str, ...], str, str, type[Hop2RagError]], ...] = (
    (("is locked", "is busy"), "a database that another program has locked", BUSY, DependencyDownError),
    (("disk is full",), "a full disk", "Free some space.", StorageError),
    (("readonly", "unable to open"), "files that cannot be opened or written", "Check the permissions.", StorageError),
    (("malformed", "not a database", "codec can't decode"), "a corrupt database", RESTORE, DependencyDownError),
)


def unusable(persist_dir: Path, collection: str, reason: str) -> Hop2RagError:
    """Return the error for a store that does not work, by the reason that SQLite or Chroma gives."""
    found, remedy, kind = _diagnosis(persist_dir, reason)
    return kind(f"Collection {collection!r} in {str(persist_dir)!r}: expected a usable store, found {found}.", remedy)


def _diagnosis(persist_dir: Path, reason: str) -> tuple[str, str, type[Hop2RagError]]:
    for words, found, remedy, kind in _SYMPTOMS:
        if any(word in reason for word in words):
            return found, remedy, kind
    # Chroma reports a full disk as a failure of the operation
    if (free := shutil.disk_usage(persist_dir).free) < MIN_FREE_BYTES:
        return f"only {free // 2**20} MiB free on its disk", "Free some space.", StorageError
    return " ".join(reason.split())[:200], RESTORE, DependencyDownError


def _require_database(persist_dir: Path, collection: str) -> None:
    try:
        folder, database = persist_dir.is_dir(), (persist_dir / DATABASE).is_file()
    except ValueError:  # a NUL in the path
        folder = database = False
    if not folder:
        raise misfit(persist_dir, collection, "a folder with a Chroma store", "no such folder", REINDEX)
    if not database:
        raise misfit(persist_dir, collection, f"a Chroma store ({DATABASE})", "a folder without one", REINDEX)


def connect(persist_dir: Path) -> sqlite3.Connection:
    """Return a connection to a store's database, which must exist; the caller closes it."""
    # rw creates nothing, and lets SQLite roll back the unfinished work of a killed writer
    uri = (persist_dir / DATABASE).resolve().as_uri() + "?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_SECONDS)


def _require_schema(database: sqlite3.Connection, persist_dir: Path, collection: str) -> None:
    found, expected = _read_schema(database), _installed_schema()
    if found != expected:
        from chromadb import __version__  # noqa: PLC0415 - as in `open_client`

        raise misfit(
            persist_dir,
            collection,
            f"the schema of chromadb {__version__} ({_shown(expected)})",
            f"another version's ({_shown(found)})",
            "Install the chromadb that wrote it, upgrade a copy of it with this one, or index again.",
        )


def _shown(schema: dict[str, int]) -> str:
    return ", ".join(f"{part} {version}" for part, version in sorted(schema.items())) or "none"


def _read_schema(database: sqlite3.Connection) -> dict[str, int]:
    """Return the newest migration of each part of the database; empty if it is not a Chroma database."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchall():
        return {}
    rows = database.execute("SELECT dir, max(version) FROM migrations GROUP BY dir").fetchall()
    return {str(part): int(version) for part, version in rows}


@cache
def _installed_schema() -> dict[str, int]:
    """Return the schema of the installed chromadb. It publishes no schema, so a store is created and read."""
    with tempfile.TemporaryDirectory() as folder:
        open_client(Path(folder)).close()
        with closing(connect(Path(folder))) as database:
            return _read_schema(database)
