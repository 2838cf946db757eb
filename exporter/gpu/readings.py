"""The readings of a GPU, grouped by cost, and the two interfaces of a backend.

A field is None if the GPU, the driver or the backend does not provide it; None never becomes a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class GpuError(Exception):
    """A call to a GPU failed; `code` is the driver's symbolic name, such as `GPU_IS_LOST`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """Identity of one GPU; `gpu` is its index, or `index:instance` for a MIG instance, and labels all its series."""

    gpu: str
    index: str
    uuid: str
    name: str
    driver: str
    backend: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Device memory in bytes, the driver's reserve included in `used`. Read every tick: 7 us."""

    max_age_seconds: ClassVar[float] = 2.0
    outlives_loss: ClassVar[bool] = False
    used: int
    total: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Utilization:
    """Power in watts and duty cycles, 0 to 1. Read every 100 ms: 5 us, and the values change no faster."""

    max_age_seconds: ClassVar[float] = 2.0
    outlives_loss: ClassVar[bool] = False
    power_watts: float | None = None
    utilization: float | None = None
    memory_utilization: float | None = None


@dataclass(frozen=True, slots=True)
class BusyTime:
    """Busy time from the driver's buffer of duty cycles. Read every second: 3 ms.

    `busy_seconds` is the integral of the duty cycle since the first reading, `refresh_seconds` the actual interval of
    the driver's samples, and `latest` the newest of them (0 to 1).
    """

    max_age_seconds: ClassVar[float] = 3.0
    outlives_loss: ClassVar[bool] = False
    busy_seconds: float
    latest: float | None = None
    refresh_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Values that change slowly. Read every second: energy alone takes 3 to 17 ms.

    Energy in joules since the driver was loaded, temperature in degrees Celsius, clocks in hertz, memory errors over
    the GPU's lifetime.
    """

    max_age_seconds: ClassVar[float] = 3.0
    outlives_loss: ClassVar[bool] = False
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None


@dataclass(frozen=True, slots=True)
class Xids:
    """XID errors since the exporter began to watch, and the code of the last one. Read every second and at a loss.

    They describe the past, so they stay true after the GPU is lost, when they matter most. `last` is None until there
    is one.
    """

    max_age_seconds: ClassVar[float] = math.inf
    outlives_loss: ClassVar[bool] = True
    count: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Pcie:
    """PCIe traffic in bytes per second. Read every 5 s if enabled: the driver measures each value for 20 ms."""

    max_age_seconds: ClassVar[float] = 7.0
    outlives_loss: ClassVar[bool] = False
    sent: float | None = None
    received: float | None = None


@dataclass(frozen=True, slots=True)
class Processes:
    """Device memory in bytes by process id. Read every 5 s if enabled: it can take 5 ms and a lock."""

    max_age_seconds: ClassVar[float] = 7.0
    outlives_loss: ClassVar[bool] = False
    used_by_pid: tuple[tuple[int, int], ...] = ()


Reading = Memory | Utilization | BusyTime | Status | Xids | Pcie | Processes


class GpuDevice(Protocol):
    """One GPU or MIG instance. Every method may block on the driver, and raises GpuError for a lost GPU.

    A method returns None if the device does not support the reading. Fields that are unsupported or failed are None;
    `take_failures` returns the codes of those that failed.
    """

    @property
    def info(self) -> GpuInfo:
        """Its identity."""

    def memory(self) -> Memory | None:
        """Read the memory in use; None if the GPU answers without reporting it."""

    def utilization(self) -> Utilization | None:
        """Read power and duty cycles."""

    def busy_time(self) -> BusyTime | None:
        """Read the driver's utilization buffer."""

    def status(self) -> Status | None:
        """Read energy, temperature, clocks and memory errors."""

    def xids(self) -> Xids | None:
        """Read the XID errors so far, those of a loss included; None if they cannot be watched."""

    def pcie(self) -> Pcie | None:
        """Read PCIe traffic."""

    def processes(self) -> Processes | None:
        """Read memory by process."""

    def take_failures(self) -> list[str]:
        """Return the codes of the fields that failed since the last call."""

    def reopen(self) -> None:
        """Get a new handle after a loss."""


class GpuReader(Protocol):
    """A backend."""

    def open(self) -> Sequence[GpuDevice]:
        """Find the GPUs.

        Raises:
            GpuError: the driver is missing, or does not answer.
        """
