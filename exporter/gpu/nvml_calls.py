"""NVML's calling conventions: failures by name, and what a GPU lacks as None."""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from typing import Any

from exporter.gpu.readings import GpuError

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
