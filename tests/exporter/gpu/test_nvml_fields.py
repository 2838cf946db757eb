"""A value that is missing or fails costs only its own field; only certain codes mean that the GPU is lost."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from exporter.gpu.nvml import NvmlReader
from exporter.gpu.readings import GpuError, Memory, Processes, Status, Utilization

if TYPE_CHECKING:
    from exporter.gpu.nvml import NvmlDevice
    from tests.exporter.conftest import FakeNvml

LOSSES = ("GPU_IS_LOST", "RESET_REQUIRED", "UNINITIALIZED", "DRIVER_NOT_LOADED", "GPU_NOT_FOUND")
LACKS = ("NOT_SUPPORTED", "INVALID_ARGUMENT", "NO_PERMISSION", "NOT_FOUND", "FUNCTION_NOT_FOUND", "DEPRECATED")
FAILURES = ("UNKNOWN", "TIMEOUT", "IN_USE", "INSUFFICIENT_RESOURCES", "OPERATING_SYSTEM", "CORRUPTED_INFOROM")
STRANGERS = (OSError(5, "I/O"), TypeError("no"), ValueError("no"), ctypes.ArgumentError("no"), AttributeError("no"))


@pytest.mark.parametrize("code", LOSSES)
def test_a_code_that_means_a_loss_loses_the_gpu(nvml: FakeNvml, code: str) -> None:
    """After such a code every call fails: old values must not be served."""
    gpu = NvmlReader(nvml).open()[0]
    nvml.fail("nvmlDeviceGetMemoryInfo", code)
    with pytest.raises(GpuError, match=code):
        gpu.memory()
    nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=1, total=2, free=1)
    with pytest.raises(GpuError):  # until it is opened anew
        gpu.memory()


@pytest.mark.parametrize("code", [*LACKS, *FAILURES])
def test_row_25_memory_that_is_not_reported_loses_no_gpu(
    nvml: FakeNvml, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A GB10 shares the host's memory: taken for lost, it would pause every run and show no power either."""
    nvml.answers |= {"nvmlDeviceGetPowerUsage": 11_200, "nvmlDeviceGetName": "NVIDIA GB10"}
    nvml.fail("nvmlDeviceGetMemoryInfo", code)
    gpu = NvmlReader(nvml).open()[0]
    assert [gpu.memory(), gpu.memory()] == [None, None]
    assert gpu.utilization().power_watts == pytest.approx(11.2)
    assert [record.message for record in caplog.records] == [
        f"GPU 0 (NVIDIA GB10) does not report its memory: {code}. Its other series are served."
    ]
    assert gpu.take_failures() == ([code] * 2 if code in FAILURES else [])


@pytest.mark.parametrize("memory", [(0, 0, 0), (2**64 - 1, 2**64 - 1, 2**64 - 1), (None, None, None), (5, 0, 0)])
def test_memory_that_is_no_memory_is_absent(nvml: FakeNvml, memory: tuple[int | None, int, int]) -> None:
    """Some drivers say success and fill in nothing: 0 of 0 bytes is not a measurement."""
    used, total, free = memory
    nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=used, total=total, free=free)
    assert NvmlReader(nvml).open()[0].memory() is None


def test_more_memory_in_use_than_there_is_is_absent(nvml: FakeNvml) -> None:
    """A share of 200 % would fire every alert about memory, and move the axis of every figure."""
    nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=20, total=10, free=1)
    assert NvmlReader(nvml).open()[0].memory() is None
    nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=4, total=10, free=20)
    assert NvmlReader(nvml).open()[0].memory() == Memory(used=4, total=10, free=None)


@pytest.mark.parametrize("name", ["a\nERROR forged", "a\x1b]0;owned\x07", "a\u202eb", "a\tb\r"])
def test_a_name_is_one_line_of_plain_text(nvml: FakeNvml, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A virtual GPU is called as its host pleases; the name is logged, and becomes a label."""
    nvml.answers["nvmlDeviceGetName"] = name
    nvml.fail("nvmlDeviceGetMemoryInfo", "NOT_SUPPORTED")
    gpu = NvmlReader(nvml).open()[0]
    gpu.memory()
    assert gpu.info.name.startswith("a")
    assert gpu.info.name.isprintable()
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_process_that_is_listed_twice_is_one(nvml: FakeNvml) -> None:
    """A process with two contexts comes twice; Prometheus would keep one of two samples of one series."""
    running = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in ((7, 1), (8, 5), (7, 2), (9, None))]
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = running
    assert NvmlReader(nvml).open()[0].processes() == Processes(((7, 3), (8, 5)))


def test_gpus_with_one_uuid_are_opened_anew_by_their_index(nvml: FakeNvml) -> None:
    """Asked by UUID NVML gives the first of them, whose values would be served as those of both."""
    nvml.answers["nvmlDeviceGetUUID"] = "GPU-same"
    second = NvmlReader(nvml).open()[1]
    nvml.fail("nvmlDeviceGetMemoryInfo", "GPU_IS_LOST")
    with pytest.raises(GpuError):
        second.memory()
    second.reopen()
    sizes = {"handle-0": 1, "handle-1": 2}
    nvml.answers["nvmlDeviceGetMemoryInfo"] = lambda handle: SimpleNamespace(used=sizes[handle], total=4, free=0)
    assert second.memory() == Memory(used=2, total=4, free=0)


@pytest.mark.parametrize("count", [-1, 2**32 - 1, "x", None, True])
def test_no_odd_number_of_instances_costs_a_gpu(nvml: FakeNvml, count: object) -> None:
    """What is asked while GPUs are found must not keep all of them from being found."""
    nvml.answers["nvmlDeviceGetMaxMigDeviceCount"] = count
    assert [gpu.info.gpu for gpu in NvmlReader(nvml).open()] == ["0", "1"]


def test_a_gpu_that_no_longer_reports_who_it_is_is_lost(nvml: FakeNvml) -> None:
    """A container whose devices were taken away gets UNKNOWN for everything; that is not a GPU without memory."""
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


def count_values(gpu: NvmlDevice) -> int:
    """Return how many fields of utilization and status have a value."""
    utilization, status = gpu.utilization(), gpu.status()
    fields = [getattr(utilization, name) for name in Utilization.__slots__] + [
        getattr(status, name) for name in Status.__slots__
    ]
    return sum(value is not None for value in fields)


@pytest.mark.parametrize("function", SENSORS)
@pytest.mark.parametrize("failure", [*LACKS, *FAILURES, *STRANGERS])
def test_row_25_a_sensor_that_fails_costs_its_own_fields(
    nvml: FakeNvml, function: str, failure: str | Exception
) -> None:
    """One sensor in trouble, or one that a vGPU does not have, must not take the others along."""
    nvml.answers |= SENSORS
    gpu = NvmlReader(nvml).open()[0]
    assert count_values(gpu) == 9
    if isinstance(failure, str):
        nvml.fail(function, failure)
    else:
        nvml.answers[function] = failure
    own = {"nvmlDeviceGetUtilizationRates": 2, "nvmlDeviceGetClockInfo": 2, "nvmlDeviceGetTotalEccErrors": 2}
    assert count_values(gpu) == 9 - own.get(function, 1)
    is_reported = failure not in LACKS
    code = failure if isinstance(failure, str) else type(failure).__name__
    assert set(gpu.take_failures()) == ({code} if is_reported else set())


@pytest.mark.parametrize("function", SENSORS)
@pytest.mark.parametrize("value", [2**32 - 1, 2**64 - 1, -1, None, "0"])
def test_a_value_that_was_not_filled_in_is_absent(nvml: FakeNvml, function: str, value: object) -> None:
    """4,294,967 W and 42,949,672 % are what "not available" looks like when it is taken for a number."""
    rates = function == "nvmlDeviceGetUtilizationRates"
    nvml.answers |= SENSORS | {function: SimpleNamespace(gpu=value, memory=value) if rates else value}
    own = {"nvmlDeviceGetUtilizationRates": 2, "nvmlDeviceGetClockInfo": 2, "nvmlDeviceGetTotalEccErrors": 2}
    assert count_values(NvmlReader(nvml).open()[0]) == 9 - own.get(function, 1)


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


def test_a_driver_that_does_not_report_its_version_has_gpus(nvml: FakeNvml) -> None:
    """The version is a label; the GPUs are the point."""
    nvml.fail("nvmlSystemGetDriverVersion", "UNKNOWN")
    assert [device.info.driver for device in NvmlReader(nvml).open()] == ["", ""]


def test_the_parent_of_mig_instances_is_no_lost_gpu(nvml: FakeNvml) -> None:
    """A GPU in MIG mode reports memory and load per instance, and refuses most processes that ask for the whole GPU."""
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
