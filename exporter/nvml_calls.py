"""NVML's calling conventions: failures by name, what a GPU lacks as None, event sets and sample buffers."""

from __future__ import annotations

import math
import threading
from collections import deque
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import Any

from exporter.readings import GpuError, History, Xids

# What a GPU, a MIG instance or an unprivileged caller does not have; a vGPU says INVALID_ARGUMENT.
_LACKING = frozenset(
    {
        "NOT_SUPPORTED",
        "FUNCTION_NOT_FOUND",
        "NO_PERMISSION",
        "NOT_FOUND",
        "NO_DATA",
        "INVALID_ARGUMENT",
        "FREQ_NOT_SUPPORTED",
        "VGPU_ECC_NOT_SUPPORTED",
        "DEPRECATED",
        "ARGUMENT_VERSION_MISMATCH",
    }
)
# Nothing more can be asked until the handle, or NVML, is opened anew. Any other failure is one answer's.
LOST = frozenset(
    {
        "GPU_IS_LOST",
        "GPU_NOT_FOUND",
        "RESET_REQUIRED",
        "UNINITIALIZED",
        "DRIVER_NOT_LOADED",
        "LIBRARY_NOT_FOUND",
        "LIB_RM_VERSION_MISMATCH",
    }
)
_NOT_AVAILABLE = frozenset({2**32 - 1, 2**64 - 1})  # NVML_VALUE_NOT_AVAILABLE: a success without a value
MICROSECONDS = 1_000_000
UNSEEN_SECONDS = 2.0  # samples further apart than this leave a time of which nothing is known
EVENTS_PER_POLL = 100  # a GPU that throws XIDs without end must not hold the thread
FAILURES_KEPT = 1000


class Calls:
    """Calls NVML functions by name and turns whatever they raise into GpuError.

    `failures` holds the codes of answers that were left out for a failure, for whoever counts them.
    """

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.failures: deque[str] = deque(maxlen=FAILURES_KEPT)
        names = [name for name in vars(nvml) if name.startswith("NVML_ERROR_")]
        self._codes = {getattr(nvml, name): name.removeprefix("NVML_ERROR_") for name in names}

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Return the function's result; a string that is no UTF-8 has replacement characters.

        Raises:
            GpuError: with NVML's name for the failure, or the name of an exception that is not NVML's.
        """
        try:
            answer = getattr(self.nvml, function)(*arguments)
        except self.nvml.NVMLError as error:
            raise GpuError(self._codes.get(error.value, "UNKNOWN")) from error
        except UnicodeDecodeError as error:
            answer = error.object
        except Exception as error:  # ctypes and the binding raise what they like, and a field is all that it may cost
            raise GpuError(type(error).__name__) from error
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

    def optional(self, function: str, *arguments: Any) -> Any:
        """Return the function's result, or None where this GPU or caller does not have it, or it failed.

        Raises:
            GpuError: the GPU is lost.
        """
        try:
            return self(function, *arguments)
        except GpuError as error:
            if error.code in LOST:
                raise
            self.note(error.code)
            return None

    def note(self, code: str) -> None:
        """Keep a failure for whoever counts them, unless it means that there is nothing to be had."""
        if code not in _LACKING:
            self.failures.append(code)

    def number(self, function: str, *arguments: Any) -> int | None:
        """Return the function's result where it is a number that means something; see `optional`."""
        return known(self.optional(function, *arguments))

    def attempt(self, function: str, *arguments: Any) -> Any:
        """Return the function's result, or None if it fails for any reason."""
        with suppress(GpuError):
            return self(function, *arguments)
        return None


def known(value: Any, most: float = math.inf) -> int | None:
    """Return a value from 0 to `most`, None for anything else, such as NVML's "not available"."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and value not in _NOT_AVAILABLE and 0 <= value <= most else None


def percent(value: Any) -> float | None:
    """Return a duty cycle in percent as 0 to 1, None for what cannot be one."""
    told = known(value, 100)
    return None if told is None else told / 100


class UtilizationBuffer:
    """Integrates the driver's buffer of duty cycles, so that no sample is lost between two reads."""

    def __init__(self, call: Calls) -> None:
        self._call = call
        self._handle: Any = None
        self._last_us = 0
        self._reading: History | None = None

    def read(self, handle: Any) -> History | None:
        """Return the history so far; None until the driver has told anything."""
        if handle is not self._handle:  # a driver that was loaded anew counts its time from another start
            self._handle, self._last_us = handle, 0
        kind = self._call.nvml.NVML_GPU_UTILIZATION_SAMPLES
        answer = self._call.optional("nvmlDeviceGetSamples", handle, kind, self._last_us)
        told = [(sample.timeStamp, percent(sample.sampleValue.uiVal)) for sample in answer[1]] if answer else []
        samples = [(time_us, ratio) for time_us, ratio in told if ratio is not None]
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
    """Counts a GPU's XID errors from the first poll on; may be asked from several threads.

    Events wait in a set that NVML frees when it is shut down or the handle is given up: `close` takes what waits there
    first, for the XID that comes with a loss is the one that says why.
    """

    def __init__(self, call: Calls) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._handle: Any = None
        self._events: Any = None
        self._told: Xids | None = None

    def poll(self, handle: Any) -> Xids | None:
        """Return the XID errors so far, None where they cannot be watched.

        Begins to watch a handle that is new; None, for a GPU that is lost, only takes what waits.
        """
        with self._lock:
            if handle is not None and handle is not self._handle:
                self._close()
                self._register(handle)
            self._take()
            return self._told

    def close(self) -> None:
        """Count what waits, and free the set."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._take()
        if self._events is not None:
            self._call.attempt("nvmlEventSetFree", self._events)
        self._handle = self._events = None

    def _register(self, handle: Any) -> None:
        self._handle = handle
        with suppress(GpuError):
            events = self._call("nvmlEventSetCreate")
            try:
                self._call("nvmlDeviceRegisterEvents", handle, self._call.nvml.nvmlEventTypeXidCriticalError, events)
            except GpuError:
                self._call.attempt("nvmlEventSetFree", events)
                raise
            self._events, self._told = events, self._told or Xids(0)

    def _take(self) -> None:
        if self._events is None:
            return
        for _ in range(EVENTS_PER_POLL):
            event = self._call.attempt("nvmlEventSetWait_v2", self._events, 0)
            if event is None:  # no more, or the set is of no use any longer
                return
            self._told = Xids((self._told.count if self._told else 0) + 1, known(event.eventData))
