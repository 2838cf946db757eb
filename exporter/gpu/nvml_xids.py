"""A GPU's XID errors, from NVML's event sets."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from exporter.gpu.nvml_calls import Calls, known
from exporter.gpu.readings import GpuError, Xids

if TYPE_CHECKING:
    from collections.abc import Iterator


LOCK_SECONDS = 1.0
EVENTS_PER_POLL = 100  # a GPU with an endless series of XIDs must not keep the thread


class XidWatch:
    """Counts a GPU's XID errors from the first poll on; thread-safe.

    NVML queues events in a set and frees it when NVML is shut down or the handle is dropped. `close` reads the queued
    events first, because the XID that comes with a loss explains it.
    """

    def __init__(self, call: Calls) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._handle: Any = None
        self._events: Any = None
        self._reading: Xids | None = None

    def poll(self, handle: Any) -> Xids | None:
        """Return the XID errors so far, None if they cannot be watched.

        Starts to watch a new handle; None, for a lost GPU, only reads the queued events.
        """
        with self._locked() as is_ours:
            if is_ours:
                if handle is not None and handle is not self._handle:
                    self._close()
                    self._register(handle)
                self._take()
            return self._reading

    def close(self) -> None:
        """Count the queued events, and free the set."""
        with self._locked() as is_ours:
            if is_ours:
                self._close()

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Yield whether this thread may call the driver; do not wait forever for another thread that hangs in it."""
        is_ours = self._lock.acquire(timeout=LOCK_SECONDS)
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
            self._events, self._reading = events, self._reading or Xids(0)

    def _take(self) -> None:
        if self._events is None:
            return
        for _ in range(EVENTS_PER_POLL):
            event = self._call.attempt("nvmlEventSetWait_v2", self._events, 0)
            if event is None:  # no more events, or the set is no longer valid
                return
            self._reading = Xids((self._reading.count if self._reading else 0) + 1, known(event.eventData))
