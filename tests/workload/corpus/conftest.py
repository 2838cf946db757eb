"""A cheap embedder and finished stores, so that the tests of the index need no model."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from workload.corpus.index import build
from workload.corpus.probe import examine
from workload.corpus.synthetic import build_world

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workload.corpus.hotpotqa import Paragraph

COLLECTION = "passages"
PASSAGES = 1_200  # above 1,000 Chroma writes its vector files; below, it keeps the vectors in SQLite's log


class WordEmbedder:
    """Counts hashed words: texts that share words are near, and it is the same in every process."""

    def __init__(self, dimension: int = 48, name: str = "words") -> None:
        self.dimension, self.name = dimension, name
        self.encoded = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text and count the texts."""
        self.encoded += len(texts)
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[
                    row, int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16) % self.dimension
                ] += 1
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


@pytest.fixture
def probed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe stores in this process: a whole one crashes nothing, and a child takes a second to import Chroma."""
    monkeypatch.setattr("workload.corpus.store.probe", examine)


@pytest.fixture
def embedder() -> WordEmbedder:
    """A fresh embedder that has encoded nothing."""
    return WordEmbedder()


@pytest.fixture(scope="session")
def paragraphs() -> tuple[Paragraph, ...]:
    """The passages of a small invented world."""
    return build_world(PASSAGES, 1).paragraphs


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, paragraphs: tuple[Paragraph, ...]) -> Path:
    """A finished store, to be copied and never opened: Chroma remembers folders for as long as the process lives."""
    folder = tmp_path_factory.mktemp("finished") / "store"
    build(paragraphs, folder, COLLECTION, WordEmbedder())
    return folder


@pytest.fixture
def store_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished store in a folder of its own."""
    return shutil.copytree(finished, tmp_path / "store")
