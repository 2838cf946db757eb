"""A wall clock that does not jump; within one process all instants of a soak come from it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def steady(
    monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
) -> Callable[[], float]:
    """Return a clock of seconds since the epoch that reads the wall clock once and then follows the monotonic one.

    A clock set back would give segments of negative length, and questions outside every segment.
    """
    anchor = wall() - monotonic()
    return lambda: anchor + monotonic()
