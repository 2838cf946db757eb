"""Builds the Chroma collection in batches. A build can be resumed, and is complete once its manifest exists."""

from __future__ import annotations

import fcntl
import json
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workload.corpus.chroma import (
    BUSY,
    DATABASE,
    MARK_CONTENT,
    MARK_MODEL,
    PARTS,
    explained,
    misfit,
    open_client,
    open_collection,
    survey_schema,
)
from workload.corpus.manifest import IndexManifest, content_hash, manifest_path, read_manifest
from workload.corpus.memory import index_bytes, require_memory
from workload.corpus.probe import probe
from workload.corpus.store import check
from workload.errors import DependencyDownError, UsageError
from workload.files import atomic_file
from workload.files.enclosed import refuse_ways_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from chromadb.api import ClientAPI
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection
    from rich.progress import Progress

    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Paragraph

DEFAULT_COLLECTION = "hotpot_fullwiki"


def build(
    paragraphs: Sequence[Paragraph],
    persist_dir: Path,
    collection: str,
    embedder: Embedder,
    *,
    batch_size: int = 256,
    progress: Progress | None = None,
    replace: bool = False,
) -> IndexManifest:
    """Embed the paragraphs (title and text) into a collection with cosine distance, and write its manifest last.

    A finished index of the same content and model is reused, and an interrupted build is resumed. An unfinished build
    of other content is replaced, a finished one only with `replace`, and a foreign collection never. `progress` is a
    started display that gets a task; None shows no progress.

    Raises:
        UsageError: there is nothing to index, the name or batch size is wrong, or another collection has the name.
        DependencyDownError: the store is corrupt, or locked, for example by another build.
        MissingPartError: there is too little memory for the vector index.
        StorageError: the disk is full or not writable.
    """
    wanted = {paragraph.id: paragraph for paragraph in paragraphs}
    if not wanted or batch_size < 1:
        raise UsageError(
            f"Cannot index {len(wanted)} paragraphs in batches of {batch_size}.", "Both must be 1 or more."
        )
    mark: dict[str, str] = {MARK_CONTENT: content_hash(paragraphs), MARK_MODEL: embedder.name}
    with explained(persist_dir, collection), _only_builder(persist_dir, collection):
        if (persist_dir / DATABASE).exists():
            survey_schema(persist_dir, collection)
        with closing(open_client(persist_dir)) as client:
            finished = _finished(client, persist_dir, collection, mark, replace=replace)
            if not finished:
                require_memory(persist_dir, collection, index_bytes(len(wanted), embedder.dimension))
                manifest_path(persist_dir, collection).unlink(missing_ok=True)
                target = target_collection(client, collection, mark)
                if target.count():  # an interrupted build may have left a vector index that crashes its reader
                    probe(persist_dir, collection)
                fill(target, wanted, embedder, min(batch_size, client.get_max_batch_size()), progress)
                _require_all(target, wanted, persist_dir)
                finished = _manifest(collection, embedder, len(wanted), mark[MARK_CONTENT])
                text = json.dumps(asdict(finished), indent=2)
                atomic_file.write(manifest_path(persist_dir, collection), text)
    check(persist_dir, collection, embedder)
    return finished


@contextmanager
def _only_builder(persist_dir: Path, collection: str) -> Iterator[None]:
    """Lock the folder: of two writers, each with its vector index in memory, one would overwrite the other."""
    try:
        persist_dir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, ValueError) as error:
        raise misfit(persist_dir, collection, "a folder", "something else", "Name another folder.") from error
    refuse_ways_out(persist_dir, PARTS)
    with (persist_dir / ".hop2rag-index.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DependencyDownError(
                f"Collection {collection!r} in {str(persist_dir)!r}: expected to be the only builder, found another.",
                BUSY,
            ) from error
        yield


def _finished(
    client: Client, persist_dir: Path, collection: str, mark: dict[str, str], *, replace: bool
) -> IndexManifest | None:
    """Return the manifest of a finished index of this content; remove another index if that is allowed."""
    if collection not in {existing.name for existing in client.list_collections()}:
        return None
    manifest = read_manifest(persist_dir, collection)
    metadata = open_collection(client, collection).metadata or {}
    found = {key: metadata.get(key) for key in mark}
    if found[MARK_CONTENT] is None:
        remedy = "Name another collection."
        raise misfit(persist_dir, collection, "a collection of ours or none", "one of another program", remedy)
    if found == mark:
        return manifest
    if manifest and not replace:
        found_text = f"another index ({manifest.count} documents, {manifest.embedding_model})"
        remedy = "Pass --replace, or name another collection."
        raise misfit(persist_dir, collection, "this content or nothing", found_text, remedy)
    # the manifest is removed first: a half-removed index must not look finished
    manifest_path(persist_dir, collection).unlink(missing_ok=True)
    client.delete_collection(collection)
    return None


def target_collection(client: ClientAPI, collection: str, mark: dict[str, str]) -> Collection:
    """Return the collection to fill; a missing one is created with cosine distance and `mark` as its metadata.

    Raises:
        UsageError: Chroma refuses the name.
    """
    from chromadb.errors import InvalidArgumentError  # noqa: PLC0415 - its import takes most of a second

    try:
        return client.get_or_create_collection(
            collection, metadata=mark, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
    except (InvalidArgumentError, ValueError) as error:
        raise UsageError(
            f"Chroma refuses the collection name {collection!r}.",
            "Use 3 or more letters, digits, dots, dashes or underscores, with a letter or digit at both ends.",
        ) from error


def fill(
    target: Collection, wanted: dict[str, Paragraph], embedder: Embedder, batch_size: int, progress: Progress | None
) -> None:
    """Embed and add those of the paragraphs (by id) that the collection lacks, in batches."""
    present = set(target.get(include=[])["ids"])
    missing = [(id_, paragraph) for id_, paragraph in wanted.items() if id_ not in present]
    done = len(wanted) - len(missing)
    task = progress.add_task(f"Indexing {target.name}", total=len(wanted), completed=done) if progress else None
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        target.add(
            ids=[id_ for id_, _ in batch],
            embeddings=embedder.encode([f"{paragraph.title}. {paragraph.text}" for _, paragraph in batch]),
            documents=[paragraph.text for _, paragraph in batch],
            metadatas=[
                {"title": paragraph.title, "sentences": json.dumps(paragraph.sentences, ensure_ascii=False)}
                for _, paragraph in batch
            ],
        )
        if progress and task is not None:
            progress.advance(task, len(batch))


def _require_all(target: Collection, wanted: dict[str, Paragraph], persist_dir: Path) -> None:
    if (count := target.count()) != len(wanted):
        raise DependencyDownError(
            f"Collection {target.name!r} in {str(persist_dir)!r}: expected {len(wanted)} documents, found {count}.",
            "Run it again; if that does not help, delete the folder.",
        )


def _manifest(collection: str, embedder: Embedder, count: int, content: str) -> IndexManifest:
    from chromadb import __version__  # noqa: PLC0415 - its import takes most of a second

    created = datetime.now(UTC).isoformat(timespec="seconds")
    return IndexManifest(
        collection=collection,
        chromadb_version=__version__,
        embedding_model=embedder.name,
        dimension=embedder.dimension,
        count=count,
        content_hash=content,
        created=created,
    )
