"""The process's own memory: nothing of it may stop the questions that are measured, or grow with their number."""

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
    """Leave what is alive now out of garbage collection inside the block.

    A full collection looks through every object of every loaded library; it stops all questions for a tenth of a second
    or more, and that would be measured as theirs.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def share_one_arena() -> None:
    """Let the threads started from now on take memory from one place, where glibc is the C library.

    By itself it gives up to eight arenas for each core to the threads, each with free memory that no other can use, and
    a soak grows by that (benchmarks/soak_memory.py). Little waits for the one: most is allocated under Python's lock.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_ARENA_MAX, 1)
