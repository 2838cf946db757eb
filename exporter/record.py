"""What is known about one GPU now: the latest reading of each kind, and the last samples of its memory."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from exporter.readings import Load, Memory, Reading, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.readings import GpuDevice, GpuInfo

SET_BACK_MS = 1_000  # a wall clock that jumps back further starts the timeline anew
R = TypeVar("R", bound=Reading)


@dataclass(frozen=True)
class Clock:
    """Time as the sampler sees it: seconds, monotonic; seconds since 1970; and a sleep in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class Sample(NamedTuple):
    """Memory in use at one tick, with what was last known of load and status."""

    ts_ms: int
    used_bytes: int
    load: Load | None
    status: Status | None


class GpuRecord:
    """Shared between the threads that sample one GPU and those that answer scrapes.

    A reading is served only while it is younger than its kind's `max_age_seconds` and the GPU's memory is still being
    read: a lost or hung GPU has no values, not old ones.

    Args:
        device: whose record it is.
        clock: the time.
        depth: how many memory samples are kept.
    """

    def __init__(self, device: GpuDevice, clock: Clock, depth: int) -> None:
        self._device = device
        self._clock = clock
        self._latest: dict[type, tuple[float, Reading]] = {}
        self._last_sampled: float | None = None
        self.samples: deque[Sample] = deque(maxlen=depth)

    @property
    def info(self) -> GpuInfo:
        """Who the GPU is."""
        return self._device.info

    @property
    def is_up(self) -> bool:
        """True while the GPU's memory is being read."""
        return self.fresh(Memory) is not None

    @property
    def age_seconds(self) -> float | None:
        """Time since memory was last read; None before the first time."""
        return None if self._last_sampled is None else self._clock.monotonic() - self._last_sampled

    def put(self, reading: Reading) -> None:
        """Store a reading in place of the one before."""
        self._latest[type(reading)] = (self._clock.monotonic(), reading)

    def put_memory(self, memory: Memory, at: float) -> None:
        """Store a tick's reading, taken at monotonic time `at`, and its sample on the timeline."""
        self._latest[Memory] = (at, memory)
        self._last_sampled = at
        ts_ms = int(self._clock.wall() * 1000)
        if self.samples and ts_ms < self.samples[-1].ts_ms - SET_BACK_MS:
            self.samples.clear()
        if self.samples:  # a late tick may fall into the same millisecond as the next, but a timeline must ascend
            ts_ms = max(ts_ms, self.samples[-1].ts_ms + 1)
        self.samples.append(Sample(ts_ms, memory.used, self.fresh(Load), self.fresh(Status)))

    def fresh(self, kind: type[R]) -> R | None:
        """Return the latest reading of a kind, or None if there is none young enough to be true."""
        now = self._clock.monotonic()
        memory, entry = self._latest.get(Memory), self._latest.get(kind)
        if memory is None or entry is None:
            return None
        is_true = now - memory[0] <= Memory.max_age_seconds and now - entry[0] <= kind.max_age_seconds
        return cast("R", entry[1]) if is_true else None

    def clear(self) -> None:
        """Forget every value: the GPU is lost."""
        self._latest.clear()
