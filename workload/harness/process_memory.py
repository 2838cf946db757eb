"""The memory of this process: it must neither stop the questions that are measured nor grow with their number."""

from __future__ import annotations

import ctypes
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

M_ARENA_MAX = -8  # <malloc.h>


@contextmanager
def settled_heap() -> Iterator[None]:
    """Leave all objects that exist now out of garbage collection inside the block.

    A full collection visits every object of every loaded library. It stops all questions for a tenth of a second or
    more, which would be measured as their latency.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def share_one_arena() -> None:
    """Make threads that are started from now on allocate from one arena, if the C library is glibc.

    By default glibc creates up to eight arenas per core, each with free memory that no other arena can use, and a soak
    grows by that (benchmarks/soak_memory.py). Contention is low: most allocations happen under Python's lock.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_ARENA_MAX, 1)
