"""NVML's calling conventions: failures get names, and values that a GPU lacks become None.

The driver's buffer of duty cycles is integrated here too.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import Any

from exporter.gpu.readings import BusyTime, GpuError

# Codes for values that a GPU, a MIG instance or an unprivileged caller lacks; a vGPU returns INVALID_ARGUMENT.
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
# Every call fails until the handle, or NVML, is opened again. Any other failure concerns one call.
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
FAILURES_KEPT = 1000


class Calls:
    """Calls NVML functions by name and turns whatever they raise into GpuError.

    `failures` are the codes of failed optional calls that nothing has counted yet.
    """

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.failures: deque[str] = deque(maxlen=FAILURES_KEPT)
        names = [name for name in vars(nvml) if name.startswith("NVML_ERROR_")]
        self._codes = {getattr(nvml, name): name.removeprefix("NVML_ERROR_") for name in names}

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Return the function's result; bytes that are not UTF-8 become replacement characters.

        Raises:
            GpuError: with NVML's name of the failure, or the name of an exception that is not NVML's.
        """
        try:
            answer = getattr(self.nvml, function)(*arguments)
        except self.nvml.NVMLError as error:
            raise GpuError(self._codes.get(error.value, "UNKNOWN")) from error
        except UnicodeDecodeError as error:
            answer = error.object
        except Exception as error:  # ctypes and the binding may raise anything, and only one field may be lost
            raise GpuError(type(error).__name__) from error
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

    def optional(self, function: str, *arguments: Any) -> Any:
        """Return the function's result, or None if this GPU or caller lacks it, or if it failed.

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
        """Keep a failure to be counted, unless the code means that the GPU or the caller lacks the value."""
        if code not in _LACKING:
            self.failures.append(code)

    def number(self, function: str, *arguments: Any) -> int | None:
        """Return the function's result if it is a valid number; see `optional`."""
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
    """Return a duty cycle in percent as 0 to 1, None if it is invalid."""
    valid = known(value, 100)
    return None if valid is None else valid / 100


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
