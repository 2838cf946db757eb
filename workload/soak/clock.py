"""A wall clock that does not jump: within one process every time of a soak comes from it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def steady(
    monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
) -> Callable[[], float]:
    """Return a clock of seconds since the epoch that reads the wall clock now, once, and goes on by the monotonic one.

    A clock that is set back would else give segments of negative length, and questions that lie in none.
    """
    anchor = wall() - monotonic()
    return lambda: anchor + monotonic()
