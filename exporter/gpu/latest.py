"""The state of one GPU: the latest reading of each kind, and the last samples of its memory."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from exporter.gpu.readings import GpuDevice, GpuInfo, Memory, Reading, Status, Utilization
from exporter.timeline import MEMORY_USED, MEMORY_USED_HELP, WINDOW_MS, encode_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


SET_BACK_MS = 1_000  # a wall clock that jumps back further starts a new timeline
R = TypeVar("R", bound=Reading)


@dataclass(frozen=True)
class Clock:
    """The time of a sampler: monotonic seconds, seconds since 1970, and a sleep in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class MemorySample(NamedTuple):
    """Memory in use at one tick, with the latest utilization and status.

    `epoch` counts how often the wall clock was set back before; times ascend only within an epoch.
    """

    ts_ms: int
    used_bytes: int
    utilization: Utilization | None
    status: Status | None
    epoch: int = 0


class GpuRecord:
    """Shared by the threads that sample one GPU and those that answer scrapes.

    A reading is served only while it is younger than its kind's `max_age_seconds` and the GPU still answers: a lost or
    hung GPU has no values instead of old ones. A GPU that answers without reporting its memory is up all the same.

    Args:
        depth: how many memory samples are kept.
    """

    def __init__(self, device: GpuDevice, clock: Clock, depth: int) -> None:
        self._device = device
        self._clock = clock
        self._latest: dict[type, tuple[float, Reading]] = {}
        self._last_answer: float | None = None
        self._is_lost = False
        self.samples: deque[MemorySample] = deque(maxlen=depth)

    @property
    def info(self) -> GpuInfo:
        """The identity of the GPU."""
        return self._device.info

    @property
    def is_up(self) -> bool:
        """True while the GPU answers, even without reporting its memory."""
        age_seconds = self.age_seconds
        return not self._is_lost and age_seconds is not None and age_seconds <= Memory.max_age_seconds

    @property
    def age_seconds(self) -> float | None:
        """Time since the GPU last answered the memory sampler; None before the first time."""
        return None if self._last_answer is None else self._clock.monotonic() - self._last_answer

    @property
    def timeline(self) -> list[MemorySample]:
        """The samples since the wall clock was last set back, ascending in time."""
        samples = list(self.samples.copy())
        return [sample for sample in samples if sample.epoch == samples[-1].epoch]

    def put(self, reading: Reading) -> None:
        """Store a reading; it replaces the previous one of its kind."""
        self._latest[type(reading)] = (self._clock.monotonic(), reading)

    def put_memory(self, memory: Memory | None, at: float) -> None:
        """Store the answer of a tick at monotonic time `at`, and its sample on the timeline.

        None is an answer too: the GPU answers without reporting its memory.
        """
        self._last_answer = at
        self._is_lost = False
        if memory is None:
            self._latest.pop(Memory, None)
            return
        self._latest[Memory] = (at, memory)
        ts_ms, epoch = int(self._clock.wall() * 1000), 0
        if self.samples:
            last = self.samples[-1]
            epoch = last.epoch + (ts_ms < last.ts_ms - SET_BACK_MS)
            if epoch == last.epoch:  # a late tick may fall into the next one's millisecond, but a timeline must ascend
                ts_ms = max(ts_ms, last.ts_ms + 1)
        self.samples.append(MemorySample(ts_ms, memory.used, self.fresh(Utilization), self.fresh(Status), epoch))

    def fresh(self, kind: type[R]) -> R | None:
        """Return the latest reading of a kind, None if there is none or it is too old."""
        entry = self._latest.get(kind)
        if entry is None or not (self.is_up or kind.outlives_loss):
            return None
        is_fresh = self._clock.monotonic() - entry[0] <= kind.max_age_seconds
        return cast("R", entry[1]) if is_fresh else None

    def clear(self) -> None:
        """Mark the GPU as lost: drop every reading except those that outlive the loss."""
        self._is_lost = True
        self._latest = {kind: entry for kind, entry in self._latest.items() if entry[1].outlives_loss}


def expose_memory(records: Iterable[GpuRecord], now_ms: int, window_ms: int = WINDOW_MS) -> bytes:
    """Return every memory sample of the last `window_ms`, ascending within each GPU."""
    lines = [encode_header(MEMORY_USED, MEMORY_USED_HELP)]
    since_ms = now_ms - window_ms
    for record in records:
        prefix = f'{MEMORY_USED}{{gpu="{record.info.gpu}"}} '
        recent = [sample for sample in record.timeline if sample.ts_ms > since_ms]
        lines += [f"{prefix}{sample.used_bytes} {sample.ts_ms}\n" for sample in recent]
    return "".join(lines).encode()
