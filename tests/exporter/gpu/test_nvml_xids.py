"""XID errors are counted, those above all that come with the loss of a GPU."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from exporter.gpu import nvml_xids
from exporter.gpu.nvml import NvmlReader
from exporter.gpu.readings import GpuError, Xids

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeNvml


class Events:
    """NVML's event sets: XIDs wait in a set until they are taken or it is freed, and die with NVML's shutdown."""

    def __init__(self, nvml: FakeNvml) -> None:
        self.waiting: dict[str, list[int]] = {}
        self.misused = False
        self._nvml = nvml
        self._created = 0
        nvml.answers |= {
            "nvmlEventSetCreate": self.create,
            "nvmlDeviceRegisterEvents": None,
            "nvmlEventSetFree": lambda events: self.take(events).clear(),
            "nvmlEventSetWait_v2": self.wait,
            "nvmlShutdown": self.waiting.clear,
        }

    def create(self) -> str:
        """Return a new set."""
        self._created += 1
        self.waiting[f"events-{self._created}"] = []
        return f"events-{self._created}"

    def take(self, events: str) -> list[int]:
        """Return what waits in a set; asking for one that is gone would crash the driver's library."""
        self.misused |= events not in self.waiting
        return self.waiting.get(events, [])

    def wait(self, events: str, _: int) -> object:
        """Return the next event of a set."""
        pending = self.take(events)
        return SimpleNamespace(eventData=pending.pop(0)) if pending else self._nvml.NVMLError(10)


def test_xid_errors_are_counted(nvml: FakeNvml) -> None:
    """An XID is often the only trace of why a GPU was lost."""
    events = Events(nvml)
    gpu = NvmlReader(nvml).open()[0]
    assert gpu.xids() == Xids(0)
    events.waiting["events-1"] += [31, 79]
    assert gpu.xids() == Xids(2, 79)
    assert gpu.xids() == Xids(2, 79)


def test_row_25_the_xid_that_comes_with_a_loss_is_counted(nvml: FakeNvml) -> None:
    """XID 79 says that the GPU fell off the bus; freed with its set unread, it is never seen."""
    events = Events(nvml)
    first, second = NvmlReader(nvml).open()
    first.xids(), second.xids()
    nvml.fail("nvmlDeviceGetMemoryInfo", "GPU_IS_LOST")
    for gpu in (first, second):
        with pytest.raises(GpuError):
            gpu.memory()
    events.waiting["events-1"].append(79)
    events.waiting["events-2"].append(48)
    nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=1, total=2, free=1)
    first.reopen()  # no other answers, so NVML is shut down under the second's set too
    assert first.xids() == Xids(1, 79)
    second.reopen()
    assert second.xids() == Xids(1, 48)
    events.waiting["events-3"].append(31)
    assert first.xids() == Xids(2, 31)
    assert not events.misused


def test_xids_that_cannot_be_watched_are_absent(nvml: FakeNvml) -> None:
    """A count of 0 for a GPU that is not watched would be a false promise."""
    events = Events(nvml)
    nvml.fail("nvmlDeviceRegisterEvents", "NOT_SUPPORTED")
    assert NvmlReader(nvml).open()[0].xids() is None
    assert not events.waiting["events-1"]


@pytest.mark.parametrize("failure", ["UNKNOWN", "GPU_IS_LOST"])
def test_an_event_set_that_fails_costs_no_other_reading(nvml: FakeNvml, failure: str) -> None:
    """What was counted stays, and the sensors are read on."""
    events = Events(nvml)
    nvml.answers["nvmlDeviceGetTemperature"] = 41
    gpu = NvmlReader(nvml).open()[0]
    gpu.xids()
    events.waiting["events-1"].append(31)
    assert gpu.xids() == Xids(1, 31)
    nvml.fail("nvmlEventSetWait_v2", failure)
    assert gpu.xids() == Xids(1, 31)
    assert gpu.status().temperature_celsius == 41


def test_a_thread_that_hangs_in_the_driver_holds_up_no_recovery(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other GPUs must be reopened while one of them waits for its events forever."""
    monkeypatch.setattr(nvml_xids, "LOCK_SECONDS", 0.05)
    Events(nvml)
    hangs, asked = threading.Event(), threading.Event()
    first, second = NvmlReader(nvml).open()
    first.xids()

    def wait(*_: object) -> object:
        asked.set()
        hangs.wait()
        return nvml.NVMLError(10)

    nvml.answers["nvmlEventSetWait_v2"] = wait
    thread = threading.Thread(target=first.xids, daemon=True)
    thread.start()
    asked.wait()
    first.lost = second.lost = True
    second.reopen()
    assert second.memory()
    hangs.set()
    thread.join()
