"""The driver's own buffer of duty cycles, integrated."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from exporter.gpu.nvml_calls import percent
from exporter.gpu.readings import BusyTime

if TYPE_CHECKING:
    from exporter.gpu.nvml_calls import Calls

MICROSECONDS = 1_000_000
UNSEEN_SECONDS = 2.0  # between samples further apart than this the utilization is unknown


class UtilizationBuffer:
    """Integrates the driver's buffer of duty cycles, so that no sample is lost between two reads."""

    def __init__(self, call: Calls) -> None:
        self._call = call
        self._handle: Any = None
        self._last_us = 0
        self._reading: BusyTime | None = None

    def read(self, handle: Any) -> BusyTime | None:
        """Return the busy time so far; None until the driver has returned a sample."""
        if handle is not self._handle:  # a reloaded driver has another time origin
            self._handle, self._last_us = handle, 0
        kind = self._call.nvml.NVML_GPU_UTILIZATION_SAMPLES
        answer = self._call.optional("nvmlDeviceGetSamples", handle, kind, self._last_us)
        found = [(sample.timeStamp, percent(sample.sampleValue.uiVal)) for sample in answer[1]] if answer else []
        samples = [(time_us, ratio) for time_us, ratio in found if ratio is not None]
        if not samples:
            return self._reading
        before = self._reading or BusyTime(busy_seconds=0.0)
        known_since_us = self._last_us or samples[0][0]
        times_us = [known_since_us, *(time_us for time_us, _ in samples)]
        steps = [(later - earlier) / MICROSECONDS for earlier, later in pairwise(times_us)]
        seen = [(step, ratio) for step, (_, ratio) in zip(steps, samples, strict=True) if 0 < step <= UNSEEN_SECONDS]
        self._last_us = times_us[-1]
        self._reading = BusyTime(
            busy_seconds=before.busy_seconds + sum(step * ratio for step, ratio in seen),
            latest=samples[-1][1],
            refresh_seconds=median(step for step, _ in seen) if seen else before.refresh_seconds,
        )
        return self._reading
