"""NVML's answers become readings: what a GPU lacks is None, what fails has a name."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from exporter.nvml import NvmlReader
from exporter.readings import GpuError, Load, Status, Xids

if TYPE_CHECKING:
    from exporter.nvml import NvmlDevice
    from tests.exporter.conftest import FakeNvml


def samples(*points: tuple[int, int]) -> tuple[int, list[SimpleNamespace]]:
    """Return (time in us, percent) points as nvmlDeviceGetSamples does."""
    return 1, [SimpleNamespace(timeStamp=us, sampleValue=SimpleNamespace(uiVal=percent)) for us, percent in points]


def test_every_gpu_is_found_with_its_identity(nvml: FakeNvml) -> None:
    """Identity lives on one info series, so it must be complete."""
    first, second = NvmlReader(nvml).open()
    assert (first.info.gpu, first.info.uuid, first.info.name, first.info.driver) == ("0", "GPU-0", "Fake H200", "580.1")
    assert (second.info.gpu, second.info.backend) == ("1", "nvml")


def test_a_gpu_that_tells_only_memory_has_no_other_value(nvml: FakeNvml) -> None:
    """A 0 for a sensor that does not exist would be drawn as a measurement."""
    gpu = NvmlReader(nvml).open()[0]
    assert gpu.memory().used == 4 * 1024**3
    assert gpu.load() == Load()
    assert gpu.status() == Status()
    assert gpu.history() is None
    assert (gpu.pcie().sent, gpu.processes().used_by_pid) == (None, ())


def test_units_are_base_units(nvml: FakeNvml) -> None:
    """NVML counts milliwatts, millijoules, megahertz and percent; Prometheus counts none of them."""
    nvml.answers |= {
        "nvmlDeviceGetPowerUsage": 121_049,
        "nvmlDeviceGetTotalEnergyConsumption": 5_000,
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=50, memory=20),
        "nvmlDeviceGetPcieThroughput": 3,
    }
    gpu = NvmlReader(nvml).open()[0]
    load = gpu.load()
    assert load.power_watts == pytest.approx(121.049)
    assert (load.utilization, load.memory_utilization) == (0.5, 0.2)
    status = gpu.status()
    assert (status.energy_joules, status.sm_clock_hertz, status.temperature_celsius) == (5.0, 1.98e9, 41)
    assert gpu.pcie().received == 3 * 1024


def test_instantaneous_power_is_preferred(nvml: FakeNvml) -> None:
    """The plain call averages over a second on recent GPUs and hides what a node draws."""
    field = SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=700_000))
    nvml.answers |= {"nvmlDeviceGetFieldValues": [field], "nvmlDeviceGetPowerUsage": 1}
    assert NvmlReader(nvml).open()[0].load().power_watts == 700.0
    field.nvmlReturn = nvml.NVML_ERROR_NOT_SUPPORTED
    assert NvmlReader(nvml).open()[0].load().power_watts == 0.001


def test_a_failure_carries_nvmls_name(nvml: FakeNvml) -> None:
    """The code becomes a label: an operator must see what the driver said."""
    gpu = NvmlReader(nvml).open()[0]
    nvml.fail("nvmlDeviceGetMemoryInfo", "GPU_IS_LOST")
    with pytest.raises(GpuError, match="GPU_IS_LOST"):
        gpu.memory()
    nvml.fail("nvmlDeviceGetTemperature", "GPU_IS_LOST")
    with pytest.raises(GpuError, match="GPU_IS_LOST"):
        gpu.status()


LOSSES = ("GPU_IS_LOST", "RESET_REQUIRED", "UNINITIALIZED", "DRIVER_NOT_LOADED", "GPU_NOT_FOUND")
LACKS = ("NOT_SUPPORTED", "INVALID_ARGUMENT", "NO_PERMISSION", "NOT_FOUND", "FUNCTION_NOT_FOUND", "DEPRECATED")
FAILURES = ("UNKNOWN", "TIMEOUT", "IN_USE", "INSUFFICIENT_RESOURCES", "OPERATING_SYSTEM", "CORRUPTED_INFOROM")
STRANGERS = (OSError(5, "I/O"), TypeError("no"), ValueError("no"), ctypes.ArgumentError("no"), AttributeError("no"))


@pytest.mark.parametrize("code", LOSSES)
def test_a_code_that_means_a_loss_loses_the_gpu(nvml: FakeNvml, code: str) -> None:
    """With such a code nothing more can be asked: old values must not be served beside it."""
    gpu = NvmlReader(nvml).open()[0]
    nvml.fail("nvmlDeviceGetMemoryInfo", code)
    with pytest.raises(GpuError, match=code):
        gpu.memory()
    nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=1, total=2, free=1)
    with pytest.raises(GpuError):  # until it is opened anew
        gpu.memory()


@pytest.mark.parametrize("code", [*LACKS, *FAILURES])
def test_memory_that_is_not_told_loses_no_gpu(nvml: FakeNvml, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """A GB10 shares the host's memory: taken for lost, it would pause every run and show no power either."""
    nvml.answers |= {"nvmlDeviceGetPowerUsage": 11_200, "nvmlDeviceGetName": "NVIDIA GB10"}
    nvml.fail("nvmlDeviceGetMemoryInfo", code)
    gpu = NvmlReader(nvml).open()[0]
    assert [gpu.memory(), gpu.memory()] == [None, None]
    assert gpu.load().power_watts == pytest.approx(11.2)
    assert [record.message for record in caplog.records] == [
        f"GPU 0 (NVIDIA GB10) does not tell its memory: {code}. Its other series are served."
    ]
    assert gpu.take_failures() == ([code] * 2 if code in FAILURES else [])


@pytest.mark.parametrize("memory", [(0, 0, 0), (2**64 - 1, 2**64 - 1, 2**64 - 1), (None, None, None), (5, 0, 0)])
def test_memory_that_is_no_memory_is_absent(nvml: FakeNvml, memory: tuple[int | None, int, int]) -> None:
    """Some drivers say success and fill in nothing: 0 of 0 bytes is not a measurement."""
    used, total, free = memory
    nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=used, total=total, free=free)
    assert NvmlReader(nvml).open()[0].memory() is None


def test_a_gpu_that_no_longer_tells_who_it_is_is_lost(nvml: FakeNvml) -> None:
    """A container whose devices were taken away gets UNKNOWN for everything; that is no GPU without memory."""
    gpu = NvmlReader(nvml).open()[0]
    for function in ("MemoryInfo", "UUID", "Name"):
        nvml.fail(f"nvmlDeviceGet{function}", "UNKNOWN")
    with pytest.raises(GpuError, match="UNKNOWN"):
        gpu.memory()


SENSORS = {
    "nvmlDeviceGetPowerUsage": 100_000,
    "nvmlDeviceGetTemperature": 41,
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetTotalEnergyConsumption": 5_000,
    "nvmlDeviceGetTotalEccErrors": 0,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=50, memory=20),
}


def told(gpu: NvmlDevice) -> int:
    """Return how many fields of load and status have a value."""
    load, status = gpu.load(), gpu.status()
    fields = [getattr(load, name) for name in Load.__slots__] + [getattr(status, name) for name in Status.__slots__]
    return sum(value is not None for value in fields)


@pytest.mark.parametrize("function", SENSORS)
@pytest.mark.parametrize("failure", [*LACKS, *FAILURES, *STRANGERS])
def test_a_sensor_that_fails_costs_its_own_fields(nvml: FakeNvml, function: str, failure: str | Exception) -> None:
    """One sensor in trouble, or one that a vGPU does not have, must not take the others along."""
    nvml.answers |= SENSORS
    gpu = NvmlReader(nvml).open()[0]
    assert told(gpu) == 9
    if isinstance(failure, str):
        nvml.fail(function, failure)
    else:
        nvml.answers[function] = failure
    own = {"nvmlDeviceGetUtilizationRates": 2, "nvmlDeviceGetClockInfo": 2, "nvmlDeviceGetTotalEccErrors": 2}
    assert told(gpu) == 9 - own.get(function, 1)
    is_told = failure not in LACKS
    code = failure if isinstance(failure, str) else type(failure).__name__
    assert set(gpu.take_failures()) == ({code} if is_told else set())


@pytest.mark.parametrize("function", SENSORS)
@pytest.mark.parametrize("value", [2**32 - 1, 2**64 - 1, -1, None, "0"])
def test_a_value_that_was_not_filled_in_is_absent(nvml: FakeNvml, function: str, value: object) -> None:
    """4,294,967 W and 42,949,672 % are what "not available" looks like when it is taken for a number."""
    rates = function == "nvmlDeviceGetUtilizationRates"
    nvml.answers |= SENSORS | {function: SimpleNamespace(gpu=value, memory=value) if rates else value}
    own = {"nvmlDeviceGetUtilizationRates": 2, "nvmlDeviceGetClockInfo": 2, "nvmlDeviceGetTotalEccErrors": 2}
    assert told(NvmlReader(nvml).open()[0]) == 9 - own.get(function, 1)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (UnicodeDecodeError("utf-8", b"GPU \xff", 4, 5, "invalid start byte"), "GPU \ufffd"),
        (b"H100", "H100"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("", ""),
        (OSError(5, "I/O"), ""),
    ],
)
def test_a_name_of_any_bytes_costs_nothing_else(nvml: FakeNvml, name: object, shown: str) -> None:
    """A GPU whose board says nonsense about itself has memory all the same."""
    nvml.answers["nvmlDeviceGetName"] = name
    first, second = NvmlReader(nvml).open()
    assert (first.info.name, first.info.uuid, second.info.uuid) == (shown, "GPU-0", "GPU-1")
    assert first.memory()


def test_a_driver_that_does_not_tell_its_version_has_gpus(nvml: FakeNvml) -> None:
    """The version is a label; the GPUs are the point."""
    nvml.fail("nvmlSystemGetDriverVersion", "UNKNOWN")
    assert [device.info.driver for device in NvmlReader(nvml).open()] == ["", ""]


def test_the_parent_of_mig_instances_is_no_lost_gpu(nvml: FakeNvml) -> None:
    """A GPU in MIG mode lets few ask for its memory and its load: its instances tell theirs."""
    nvml.answers |= {
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": lambda _, n: f"mig-{n}" if n < 1 else nvml.NVMLError(6),
        "nvmlDeviceGetMemoryInfo": lambda handle: (
            SimpleNamespace(used=1, total=2, free=1) if handle.startswith("mig") else nvml.NVMLError(4)
        ),
    }
    parent, instance = NvmlReader(nvml).open()
    assert parent.memory() is None
    assert instance.memory()


def test_no_driver_is_an_error_with_a_code(nvml: FakeNvml) -> None:
    """Fault row 1 begins here."""
    nvml.fail("nvmlInit", "LIBRARY_NOT_FOUND")
    with pytest.raises(GpuError, match="LIBRARY_NOT_FOUND"):
        NvmlReader(nvml).open()


def test_a_gpu_that_does_not_answer_is_listed_and_others_work(nvml: FakeNvml) -> None:
    """One card fallen off the bus at start must neither hide the others nor be forgotten."""
    nvml.answers["nvmlDeviceGetHandleByIndex"] = lambda index: f"handle-{index}" if index else nvml.NVMLError(15)
    lost, healthy = NvmlReader(nvml).open()
    assert healthy.memory().used
    with pytest.raises(GpuError):
        lost.memory()
    nvml.answers["nvmlDeviceGetHandleByIndex"] = lambda index: f"handle-{index}"
    lost.reopen()
    assert lost.memory().used
    assert lost.info.uuid == "GPU-0"


def test_a_lost_gpu_is_found_again_by_uuid(nvml: FakeNvml) -> None:
    """Indices move when a GPU vanishes: by index its series would carry another GPU's memory."""
    gpu = NvmlReader(nvml).open()[1]
    gpu.lost = True
    nvml.calls.clear()
    gpu.reopen()
    assert "nvmlDeviceGetHandleByUUID" in nvml.calls
    assert "nvmlDeviceGetHandleByIndex" not in nvml.calls
    assert "nvmlShutdown" not in nvml.calls


def test_nvml_is_restarted_only_when_no_gpu_answers(nvml: FakeNvml) -> None:
    """A reloaded driver needs a fresh start; while another GPU answers, a shutdown would take it down too."""
    first, second = NvmlReader(nvml).open()
    first.lost = second.lost = True
    nvml.calls.clear()
    first.reopen()
    assert nvml.calls[:2] == ["nvmlShutdown", "nvmlInit"]


def test_mig_instances_are_devices_of_their_own(nvml: FakeNvml) -> None:
    """Each tenant of a shared GPU sees its own memory."""
    nvml.answers |= {
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": lambda _, n: f"mig-{n}" if n < 2 else nvml.NVMLError(6),
    }
    devices = NvmlReader(nvml).open()
    assert [device.info.gpu for device in devices] == ["0", "0:0", "0:1"]
    assert [device.info.index for device in devices] == ["0", "0", "0"]


def test_utilisation_history_is_integrated_without_gaps(nvml: FakeNvml) -> None:
    """Every sample of the driver's buffer counts once, whenever it is read."""
    gpu = NvmlReader(nvml).open()[0]
    nvml.answers["nvmlDeviceGetSamples"] = samples((1_000_000, 100), (1_200_000, 50), (1_400_000, 0))
    first = gpu.history()
    assert first is not None
    assert first.busy_seconds == pytest.approx(0.1)
    assert first.latest == 0.0
    assert first.refresh_seconds == pytest.approx(0.2)
    nvml.answers["nvmlDeviceGetSamples"] = samples((1_600_000, 100))
    second = gpu.history()
    assert second is not None
    assert second.busy_seconds == pytest.approx(0.3)
    nvml.fail("nvmlDeviceGetSamples", "NOT_FOUND")
    assert gpu.history() == second


def test_an_unseen_time_is_not_credited(nvml: FakeNvml) -> None:
    """After a minute without samples nobody knows what ran; a full minute at the last value would be invented."""
    gpu = NvmlReader(nvml).open()[0]
    nvml.answers["nvmlDeviceGetSamples"] = samples((1_000_000, 100), (61_000_000, 100), (61_200_000, 100))
    reading = gpu.history()
    assert reading is not None
    assert reading.busy_seconds == pytest.approx(0.2)


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


def test_the_xid_that_comes_with_a_loss_is_counted(nvml: FakeNvml) -> None:
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
    """A count of 0 from a GPU that nobody watches would be a promise."""
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


def test_the_history_goes_on_after_the_driver_was_loaded_anew(nvml: FakeNvml) -> None:
    """A new driver counts its time from another start; asked for samples since the old one's, it has none for days."""
    asked = []

    def give(_: object, __: int, since: int) -> object:
        asked.append(since)
        return samples((9_000_000, 100)) if not asked[:-1] else samples((1_000_000, 0), (1_200_000, 100))

    nvml.answers["nvmlDeviceGetSamples"] = give
    gpu = NvmlReader(nvml).open()[0]
    gpu.history()
    gpu.reopen()
    reading = gpu.history()
    assert asked == [0, 0]
    assert reading is not None
    assert reading.busy_seconds == pytest.approx(0.2)


def test_processes_without_a_known_size_are_left_out(nvml: FakeNvml) -> None:
    """Some drivers do not tell a process's memory; a 0 would read as "uses nothing"."""
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = [
        SimpleNamespace(pid=3, usedGpuMemory=2**64 - 1),
        SimpleNamespace(pid=1, usedGpuMemory=None),
        SimpleNamespace(pid=2, usedGpuMemory=5),
    ]
    assert NvmlReader(nvml).open()[0].processes().used_by_pid == ((2, 5),)
