"""Embeds queries that wait at the same time in one batch; a query that finds the model free does not wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workload.corpus.embedding import Embedder

MAX_BATCH = 32


class QueryBatcher:
    """One encoding at a time; texts that arrive meanwhile form the next batch.

    There is no timer, so a text never waits for a batch to fill. Padding to the longest text of a batch may change a
    vector by a rounding error of single precision.

    Attributes:
        texts, batches: how many were encoded, and in how many calls.
    """

    def __init__(self, embedder: Embedder, max_batch: int = MAX_BATCH) -> None:
        self._embedder = embedder
        self._max_batch = max_batch
        self._waiting: list[tuple[str, asyncio.Future[NDArray[np.float32]]]] = []
        self._worker: asyncio.Task[None] | None = None
        self.texts = self.batches = 0

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
            self.texts += len(batch)
            self.batches += 1
            try:
                vectors = await asyncio.to_thread(self._embedder.encode, [text for text, _ in batch])
            except Exception as error:  # noqa: BLE001 - it is raised in all that wait
                for _, waiting in batch:
                    _fail(waiting, error)
            else:
                for (_, waiting), vector in zip(batch, vectors, strict=True):
                    if not waiting.done():  # its question was cancelled meanwhile
                        waiting.set_result(vector)


def _fail(waiting: asyncio.Future[NDArray[np.float32]], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
