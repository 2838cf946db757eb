"""One installer at a time: the first process installs what all share in the cache, and the rest find it."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def alone(lock: Path, say_waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold `lock`, a file, for as long as the body runs; wait while another process holds it.

    The body looks first whether the other process has done the work. The kernel releases a dead process's lock.

    Args:
        lock: the file; its folder exists.
        say_waiting: called once, if there is another process to wait for.
    """
    with lock.open("w") as locked:
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say_waiting()
            fcntl.flock(locked, fcntl.LOCK_EX)
        yield
