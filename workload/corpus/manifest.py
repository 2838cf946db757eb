"""The manifest of a finished index: a JSON file next to the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from workload.errors import StorageError, UsageError
from workload.files.enclosed import json_of
from workload.paths import inside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from workload.corpus.hotpotqa import Paragraph


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """Facts of a complete index: the manifest is written last."""

    collection: str
    chromadb_version: str
    embedding_model: str
    dimension: int
    count: int
    content_hash: str
    created: str  # ISO 8601, UTC


def content_hash(paragraphs: Iterable[Paragraph]) -> str:
    """Return the SHA-256 (hex) of the set of paragraphs; order and repeats do not matter."""
    return hashlib.sha256("\n".join(sorted({paragraph.id for paragraph in paragraphs})).encode()).hexdigest()


def manifest_path(persist_dir: Path, collection: str) -> Path:
    """Return the path of a collection's manifest.

    Raises:
        UsageError: the collection's name is not a plain name.
    """
    inside(persist_dir, collection, "The collection")
    return persist_dir / f"{collection}.manifest.json"


def read_manifest(persist_dir: Path, collection: str) -> IndexManifest | None:
    """Return the manifest, or None if there is none: the store is foreign or not finished.

    Raises:
        UsageError: the file is not a manifest, or it belongs to another collection.
        StorageError: it cannot be read.
    """
    path = manifest_path(persist_dir, collection)
    try:
        manifest = IndexManifest(**json_of(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}.", "Check its permissions.") from error
    except (ValueError, TypeError) as error:
        raise _not_a_manifest(path) from error
    types = {"dimension": int, "count": int}
    if not all(type(getattr(manifest, field.name)) is types.get(field.name, str) for field in fields(IndexManifest)):
        raise _not_a_manifest(path)
    if manifest.collection != collection:
        raise UsageError(f"{path} describes the collection {manifest.collection}.", f"Expected {collection}.")
    return manifest


def _not_a_manifest(path: Path) -> UsageError:
    return UsageError(f"{path} is not a manifest of an index.", "Delete it and run `hop2rag corpus index` again.")
