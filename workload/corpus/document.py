"""A search result, from a store of ours or of anyone else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from workload.corpus.watch import Mark

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
        """Return the store's state, see `workload.corpus.watch`."""
