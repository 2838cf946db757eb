"""The instants at which a sampler reads: on a fixed grid, so that it does not drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.gpu.latest import Clock


class Ticks:
    """Instants `interval_seconds` apart, counted from the first one, so that delays never accumulate."""

    def __init__(self, interval_seconds: float, clock: Clock) -> None:
        self._interval = interval_seconds
        self._clock = clock
        self._next = clock.monotonic()

    def wait(self) -> int:
        """Sleep until the next tick; return the number of ticks that had already passed and are skipped."""
        late = self._clock.monotonic() - self._next
        missed = max(0, int(late / self._interval))
        self._next += missed * self._interval
        if (delay := self._next - self._clock.monotonic()) > 0:
            self._clock.sleep(delay)
        self._next += self._interval
        return missed
