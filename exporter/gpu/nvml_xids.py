"""A GPU's XID errors, from NVML's event sets."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from exporter.gpu.nvml_calls import known
from exporter.gpu.readings import GpuError, Xids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.gpu.nvml_calls import Calls

TURN_SECONDS = 1.0
EVENTS_PER_POLL = 100  # a GPU that throws XIDs without end must not hold the thread


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
        with self._turn() as is_ours:
            if is_ours:
                if handle is not None and handle is not self._handle:
                    self._close()
                    self._register(handle)
                self._take()
            return self._told

    def close(self) -> None:
        """Count what waits, and free the set."""
        with self._turn() as is_ours:
            if is_ours:
                self._close()

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Yield whether this thread may ask the driver; another that hangs in it is not waited for without end."""
        is_ours = self._lock.acquire(timeout=TURN_SECONDS)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._lock.release()

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
