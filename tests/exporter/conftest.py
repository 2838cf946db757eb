"""Fakes of the outside world: a clock, GPUs that fail on command, and the NVML library."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pynvml
import pytest

from exporter.gpu.readings import BusyTime, GpuError, GpuInfo, Memory, Pcie, Processes, Status, Utilization, Xids
from tests.stubs.proc import Proc

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1024**3
RECORDING = Path(__file__).parents[1] / "fixtures" / "h200" / "prefix_caching_on" / "nvml_10ms.csv"


@dataclass
class FakeTime:
    """A clock that moves only when a test sets it, or when something sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Return seconds."""
        return self.now

    def wall(self) -> float:
        """Return seconds since 1970."""
        return 1_700_000_000.0 + self.now

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.slept.append(seconds)
        self.now += seconds


class FakeDevice:
    """A GPU with every field, that can be lost (`failure`)."""

    def __init__(self, gpu: str = "0") -> None:
        self.info = GpuInfo(
            gpu=gpu,
            index=gpu.partition(":")[0],
            uuid=f"GPU-{gpu}",
            name="Fake H200",
            driver="580.1",
            backend="fake",
        )
        self.failure: str | None = None
        self.reopened = 0
        self.used = 4 * GIB

    def memory(self) -> Memory:
        """Read or fail."""
        self._obey()
        return Memory(used=self.used, total=16 * GIB, free=16 * GIB - self.used)

    def utilization(self) -> Utilization:
        """Read or fail."""
        self._obey()
        return Utilization(power_watts=350.0, utilization=0.5, memory_utilization=0.25)

    def busy_time(self) -> BusyTime:
        """Read or fail."""
        self._obey()
        return BusyTime(busy_seconds=12.5, latest=0.75, refresh_seconds=0.2)

    def status(self) -> Status:
        """Read or fail."""
        self._obey()
        return Status(
            energy_joules=1234.5,
            temperature_celsius=41.0,
            sm_clock_hertz=1.98e9,
            memory_clock_hertz=3.2e9,
            ecc_corrected=2,
            ecc_uncorrected=0,
        )

    def xids(self) -> Xids:
        """Return one, whatever the GPU's state."""
        return Xids(1, 79)

    def take_failures(self) -> list[str]:
        """Return an empty list."""
        return []

    def pcie(self) -> Pcie:
        """Read or fail."""
        self._obey()
        return Pcie(sent=1024.0, received=2048.0)

    def processes(self) -> Processes:
        """Read or fail."""
        self._obey()
        return Processes(((4242, 3 * GIB),))

    def reopen(self) -> None:
        """Count, and fail while the GPU is lost."""
        self.reopened += 1
        if self.failure:
            raise GpuError(self.failure)

    def _obey(self) -> None:
        if self.failure:
            raise GpuError(self.failure)


@dataclass
class FakeReader:
    """A backend of given devices; without any it has no driver."""

    devices: list[FakeDevice]

    def open(self) -> list[FakeDevice]:
        """Return the devices."""
        if not self.devices:
            raise GpuError("LIBRARY_NOT_FOUND")
        return self.devices


class FakeNvml(SimpleNamespace):
    """pynvml's constants and exceptions over two invented GPUs.

    `answers[function]` is a value, an NVML error code to raise, or a function of the call's arguments.
    """

    def __init__(self) -> None:
        constants = {name: value for name, value in vars(pynvml).items() if name.startswith(("NVML_", "nvmlEventType"))}
        super().__init__(**constants, NVMLError=pynvml.NVMLError)
        self.calls: list[str] = []
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlSystemGetDriverVersion": "580.1",
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetHandleByIndex": lambda index: f"handle-{index}",
            "nvmlDeviceGetHandleByUUID": lambda uuid: f"handle-of-{uuid}",
            "nvmlDeviceGetName": "Fake H200",
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle[-1]}",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=4 * GIB, free=12 * GIB, total=16 * GIB),
        }

    def fail(self, function: str, code: str) -> None:
        """Make a function raise NVML_ERROR_`code`."""
        self.answers[function] = pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{code}"))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the function of this name; what has no answer is not supported."""
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            answer = self.answers.get(name, pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED))
            if callable(answer):
                answer = answer(*arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


@pytest.fixture
def fake_time() -> FakeTime:
    """Return a clock at rest."""
    return FakeTime()


@pytest.fixture
def device() -> FakeDevice:
    """Return GPU 0."""
    return FakeDevice()


@pytest.fixture
def make_reader() -> Callable[..., FakeReader]:
    """Return a function from GPU labels to a backend."""
    return lambda *gpus: FakeReader([FakeDevice(gpu) for gpu in gpus])


@pytest.fixture
def nvml() -> FakeNvml:
    """Return a fresh fake of the library."""
    return FakeNvml()


@pytest.fixture
def recording() -> Path:
    """Return the trace recorded on an H200."""
    return RECORDING


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Return a function that polls a condition and fails after a time."""

    def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s"
            time.sleep(0.01)

    return wait


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for 127.0.0.1; return its directory."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return tmp_path


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    """Put an invented /proc in place of this host's."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    return Proc(tmp_path)
