"""Queries that wait together are embedded together; one that is alone does not wait, and a failure reaches all."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.stubs.agent import StubEmbedder
from workload.corpus.embedding import QueryBatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class SlowEmbedder(StubEmbedder):
    """Encodes once it is released, and remembers its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.batches: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Wait for `go`, then encode."""
        self.batches.append(list(texts))
        assert self.go.wait(60)
        if "broken" in texts:
            raise RuntimeError("broken")
        return super().encode(texts)


async def test_what_waits_together_is_encoded_together() -> None:
    """The first finds the model free; those that come meanwhile share one call, at most `max_batch` of them."""
    embedder = SlowEmbedder()
    batcher = QueryBatcher(embedder, max_batch=3)
    first = asyncio.create_task(batcher.encode("a"))
    while not embedder.batches:  # noqa: ASYNC110 - it happens in another thread, which knows no event of ours
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(batcher.encode(text)) for text in "bcde"]
    await asyncio.sleep(0)
    embedder.go.set()
    vectors = await asyncio.gather(first, *others)
    assert embedder.batches == [["a"], ["b", "c", "d"], ["e"]]
    alone = StubEmbedder().encode(list("abcde"))
    assert all(np.array_equal(one, other) for one, other in zip(vectors, alone, strict=True))


async def test_a_failure_reaches_everyone_in_the_batch_and_none_after_it() -> None:
    """A worker whose vector never comes would hang for ever."""
    embedder = SlowEmbedder()
    embedder.go.set()
    batcher = QueryBatcher(embedder)
    results = await asyncio.gather(batcher.encode("broken"), batcher.encode("b"), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError, RuntimeError]
    assert (await batcher.encode("c")).shape == (4,)


async def test_a_cancelled_question_takes_no_other_with_it() -> None:
    """Ctrl-C or a time-out of one question must not cost the others their vectors."""
    embedder = SlowEmbedder()
    batcher = QueryBatcher(embedder)
    gone, kept = (asyncio.create_task(batcher.encode(text)) for text in "ab")
    await asyncio.sleep(0)
    gone.cancel()
    embedder.go.set()
    assert (await kept).shape == (4,)
    with pytest.raises(asyncio.CancelledError):
        await gone
