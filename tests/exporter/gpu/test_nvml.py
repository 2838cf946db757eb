"""NVML's answers become readings: what a GPU lacks is None, what fails has a name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from exporter.gpu.nvml import NvmlReader
from exporter.gpu.readings import GpuError, Status, Utilization

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeNvml


def samples(*points: tuple[int, int]) -> tuple[int, list[SimpleNamespace]]:
    """Return (time in us, percent) points as nvmlDeviceGetSamples does."""
    return 1, [SimpleNamespace(timeStamp=us, sampleValue=SimpleNamespace(uiVal=percent)) for us, percent in points]


def test_every_gpu_is_found_with_its_identity(nvml: FakeNvml) -> None:
    """Identity lives on one info series, so it must be complete."""
    first, second = NvmlReader(nvml).open()
    assert (first.info.gpu, first.info.uuid, first.info.name, first.info.driver) == ("0", "GPU-0", "Fake H200", "580.1")
    assert (second.info.gpu, second.info.backend) == ("1", "nvml")


def test_a_gpu_that_reports_only_memory_has_no_other_value(nvml: FakeNvml) -> None:
    """A 0 for a sensor that does not exist would be drawn as a measurement."""
    gpu = NvmlReader(nvml).open()[0]
    assert gpu.memory().used == 4 * 1024**3
    assert gpu.utilization() == Utilization()
    assert gpu.status() == Status()
    assert gpu.busy_time() is None
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
    utilization = gpu.utilization()
    assert utilization.power_watts == pytest.approx(121.049)
    assert (utilization.utilization, utilization.memory_utilization) == (0.5, 0.2)
    status = gpu.status()
    assert (status.energy_joules, status.sm_clock_hertz, status.temperature_celsius) == (5.0, 1.98e9, 41)
    assert gpu.pcie().received == 3 * 1024


def test_instantaneous_power_is_preferred(nvml: FakeNvml) -> None:
    """The plain call averages over a second on recent GPUs and hides what a node draws."""
    field = SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=700_000))
    nvml.answers |= {"nvmlDeviceGetFieldValues": [field], "nvmlDeviceGetPowerUsage": 1}
    assert NvmlReader(nvml).open()[0].utilization().power_watts == 700.0
    field.nvmlReturn = nvml.NVML_ERROR_NOT_SUPPORTED
    assert NvmlReader(nvml).open()[0].utilization().power_watts == 0.001


def test_a_failure_carries_nvmls_name(nvml: FakeNvml) -> None:
    """The code becomes a label: an operator must see what the driver said."""
    gpu = NvmlReader(nvml).open()[0]
    nvml.fail("nvmlDeviceGetMemoryInfo", "GPU_IS_LOST")
    with pytest.raises(GpuError, match="GPU_IS_LOST"):
        gpu.memory()
    nvml.fail("nvmlDeviceGetTemperature", "GPU_IS_LOST")
    with pytest.raises(GpuError, match="GPU_IS_LOST"):
        gpu.status()


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


def test_nvml_is_ended_as_often_as_it_was_begun(nvml: FakeNvml) -> None:
    """NVML counts: ended once after three beginnings it goes on with the driver that is no longer loaded."""
    reader = NvmlReader(nvml)
    nvml.answers["nvmlDeviceGetCount"] = 0
    reader.open()
    reader.open()
    nvml.answers["nvmlDeviceGetCount"] = 1
    (gpu,) = reader.open()
    gpu.lost = True
    nvml.calls.clear()
    gpu.reopen()
    assert nvml.calls[:5] == ["nvmlShutdown"] * 3 + ["nvmlInit", "nvmlDeviceGetHandleByUUID"]
    gpu.lost = True
    nvml.calls.clear()
    gpu.reopen()
    assert nvml.calls[:3] == ["nvmlShutdown", "nvmlInit", "nvmlDeviceGetHandleByUUID"]


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
    first = gpu.busy_time()
    assert first is not None
    assert first.busy_seconds == pytest.approx(0.1)
    assert first.latest == 0.0
    assert first.refresh_seconds == pytest.approx(0.2)
    nvml.answers["nvmlDeviceGetSamples"] = samples((1_600_000, 100))
    second = gpu.busy_time()
    assert second is not None
    assert second.busy_seconds == pytest.approx(0.3)
    nvml.fail("nvmlDeviceGetSamples", "NOT_FOUND")
    assert gpu.busy_time() == second


def test_an_unseen_time_is_not_credited(nvml: FakeNvml) -> None:
    """After a minute without samples it is unknown what ran; a full minute at the last value would be invented."""
    gpu = NvmlReader(nvml).open()[0]
    nvml.answers["nvmlDeviceGetSamples"] = samples((1_000_000, 100), (61_000_000, 100), (61_200_000, 100))
    reading = gpu.busy_time()
    assert reading is not None
    assert reading.busy_seconds == pytest.approx(0.2)


def test_the_history_goes_on_after_the_driver_was_loaded_anew(nvml: FakeNvml) -> None:
    """A new driver counts its time from another start; asked for samples since the old one's, it has none for days."""
    asked = []

    def give(_: object, __: int, since: int) -> object:
        asked.append(since)
        return samples((9_000_000, 100)) if not asked[:-1] else samples((1_000_000, 0), (1_200_000, 100))

    nvml.answers["nvmlDeviceGetSamples"] = give
    gpu = NvmlReader(nvml).open()[0]
    gpu.busy_time()
    gpu.reopen()
    reading = gpu.busy_time()
    assert asked == [0, 0]
    assert reading is not None
    assert reading.busy_seconds == pytest.approx(0.2)


def test_processes_without_a_known_size_are_left_out(nvml: FakeNvml) -> None:
    """Some drivers do not report the memory of a process; a 0 would read as "uses nothing"."""
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = [
        SimpleNamespace(pid=3, usedGpuMemory=2**64 - 1),
        SimpleNamespace(pid=1, usedGpuMemory=None),
        SimpleNamespace(pid=2, usedGpuMemory=5),
    ]
    assert NvmlReader(nvml).open()[0].processes().used_by_pid == ((2, 5),)
