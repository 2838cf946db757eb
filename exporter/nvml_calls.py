"""NVML's calling conventions: failures by name, what a GPU lacks as None, event sets and sample buffers."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from exporter.readings import GpuError, History

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a GPU, a MIG instance or an unprivileged caller does not have. Anything else is a failure.
_LACKING = frozenset({"NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "NO_PERMISSION", "NOT_FOUND", "NO_DATA"})
MICROSECONDS = 1_000_000
UNSEEN_SECONDS = 2.0  # samples further apart than this leave a time of which nothing is known
EVENTS_PER_POLL = 100  # a GPU that throws XIDs without end must not hold the thread


class Calls:
    """Calls NVML functions by name and turns NVML's exceptions into GpuError."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        names = [name for name in vars(nvml) if name.startswith("NVML_ERROR_")]
        self._codes = {getattr(nvml, name): name.removeprefix("NVML_ERROR_") for name in names}

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Return the function's result.

        Raises:
            GpuError: with NVML's name for the failure.
        """
        try:
            return getattr(self.nvml, function)(*arguments)
        except self.nvml.NVMLError as error:
            raise GpuError(self._codes.get(error.value, "UNKNOWN")) from error

    def optional(self, function: str, *arguments: Any) -> Any:
        """Return the function's result, or None where this GPU or caller does not have it.

        Raises:
            GpuError: for any other failure.
        """
        try:
            return self(function, *arguments)
        except GpuError as error:
            if error.code in _LACKING:
                return None
            raise

    def attempt(self, function: str, *arguments: Any) -> Any:
        """Return the function's result, or None if it fails for any reason."""
        with suppress(GpuError):
            return self(function, *arguments)
        return None


class UtilizationBuffer:
    """Integrates the driver's buffer of duty cycles, so that no sample is lost between two reads."""

    def __init__(self, call: Calls) -> None:
        self._call = call
        self._last_us = 0
        self._reading: History | None = None

    def read(self, handle: Any) -> History | None:
        """Return the history so far; None until the driver has told anything."""
        answer = self._call.optional(
            "nvmlDeviceGetSamples", handle, self._call.nvml.NVML_GPU_UTILIZATION_SAMPLES, self._last_us
        )
        samples = [(s.timeStamp, s.sampleValue.uiVal / 100) for s in answer[1]] if answer else []
        if not samples:
            return self._reading
        before = self._reading or History(busy_seconds=0.0)
        known_since_us = self._last_us or samples[0][0]
        times_us = [known_since_us, *(time_us for time_us, _ in samples)]
        steps = [(later - earlier) / MICROSECONDS for earlier, later in pairwise(times_us)]
        seen = [(step, ratio) for step, (_, ratio) in zip(steps, samples, strict=True) if 0 < step <= UNSEEN_SECONDS]
        self._last_us = times_us[-1]
        self._reading = History(
            busy_seconds=before.busy_seconds + sum(step * ratio for step, ratio in seen),
            latest=samples[-1][1],
            refresh_seconds=median(step for step, _ in seen) if seen else before.refresh_seconds,
        )
        return self._reading


class XidWatch:
    """Counts a GPU's XID errors from the first poll on. All its work is done by the thread that polls."""

    def __init__(self, call: Calls) -> None:
        self._call = call
        self._handle: Any = None
        self._events: Any = None
        self._count: int | None = None
        self._last: int | None = None

    def poll(self, handle: Any) -> tuple[int | None, int | None]:
        """Return the number of XID errors so far, None where they cannot be watched, and the last code."""
        if handle is not self._handle:
            self._register(handle)
        if self._events is not None and self._count is not None:
            for code in self._pending():
                self._count += 1
                self._last = code
        return self._count, self._last

    def _register(self, handle: Any) -> None:
        if self._events is not None:
            self._call.attempt("nvmlEventSetFree", self._events)
        self._handle, self._events = handle, None
        with suppress(GpuError):
            events = self._call("nvmlEventSetCreate")
            self._call("nvmlDeviceRegisterEvents", handle, self._call.nvml.nvmlEventTypeXidCriticalError, events)
            self._events, self._count = events, self._count or 0

    def _pending(self) -> Iterator[int]:
        for _ in range(EVENTS_PER_POLL):
            try:
                yield int(self._call("nvmlEventSetWait_v2", self._events, 0).eventData)
            except GpuError as error:
                if error.code == "TIMEOUT":
                    return
                raise
