"""Reads GPUs through NVML; the only module that loads `pynvml`."""

from __future__ import annotations

import importlib
import logging
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from exporter.gpu.nvml_calls import LOST, Calls, UtilizationBuffer, known, percent
from exporter.gpu.nvml_xids import XidWatch
from exporter.gpu.readings import BusyTime, GpuError, GpuInfo, Memory, Pcie, Processes, Status, Utilization, Xids
from exporter.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger("exporter.gpu.nvml")
MILLI = 0.001
MOST_INSTANCES = 64  # of MIG; the largest GPU has seven
MEGAHERTZ = 1_000_000
PCIE_UNIT_BYTES = 1024  # NVML reports KB/s


class NvmlReader:
    """Finds GPUs and their MIG instances.

    Args:
        nvml: the `pynvml` module; by default imported on first use, so that a host without it can run everything else.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._lock = threading.Lock()
        self._devices: list[NvmlDevice] = []
        self._initialised = 0

    def open(self) -> list[NvmlDevice]:
        """Load the driver's library and return one device per GPU and per MIG instance.

        A GPU that is listed but does not answer is included; it is lost until `reopen` succeeds.

        Raises:
            GpuError: with code LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED or another code of the driver.
        """
        try:
            self._nvml = self._nvml or importlib.import_module("pynvml")
        except ImportError as error:
            raise GpuError("LIBRARY_NOT_FOUND") from error
        call = Calls(self._nvml)
        self._initialise(call)
        driver = str(call.attempt("nvmlSystemGetDriverVersion") or "")
        self._devices = []
        for index in range(call("nvmlDeviceGetCount")):
            gpu = GpuInfo(gpu=str(index), index=str(index), uuid="", name="", driver=driver, backend="nvml")
            device = NvmlDevice(self._nvml, gpu, partial(call, "nvmlDeviceGetHandleByIndex", index), self._restart)
            self._devices.append(device)
            for instance, find_handle in device.mig_instances():
                mig = GpuInfo(
                    gpu=f"{index}:{instance}", index=str(index), uuid="", name="", driver=driver, backend="nvml"
                )
                self._devices.append(NvmlDevice(self._nvml, mig, find_handle, self._restart))
        uuids = Counter(device.info.uuid for device in self._devices)
        for device in self._devices:
            device.is_unique = uuids[device.info.uuid] == 1
        return self._devices

    def _restart(self) -> None:
        """Shut NVML down and initialise it again if no GPU answers, as a reloaded driver requires.

        Raises:
            GpuError: the driver is missing.
        """
        with self._lock:
            if not all(device.lost for device in self._devices):
                return
            for device in self._devices:
                device.release()
            call = Calls(self._nvml)
            for _ in range(self._initialised):  # NVML counts its initialisations
                call.attempt("nvmlShutdown")
            self._initialised = 0
            self._initialise(call)

    def _initialise(self, call: Calls) -> None:
        call("nvmlInit")
        self._initialised += 1


class NvmlDevice:
    """One GPU or MIG instance; see `GpuDevice`. Each of its methods is called from one thread at a time."""

    def __init__(self, nvml: Any, info: GpuInfo, find_handle: Callable[[], Any], restart: Callable[[], None]) -> None:
        self.info = info
        self.lost = True
        self.is_unique = True  # by its UUID; if two GPUs share one, NVML returns the first for both
        self._call = Calls(nvml)
        self._nvml = nvml
        self._find_handle = find_handle
        self._restart = restart
        self._handle: Any = None
        self._has_logged_no_memory = False
        self._utilization = UtilizationBuffer(self._call)
        self._xids = XidWatch(self._call)
        with suppress(GpuError):
            self._identify()

    def mig_instances(self) -> Iterator[tuple[int, Callable[[], Any]]]:
        """Yield (number, function that finds the handle) of each MIG instance; nothing if MIG is off."""
        count = None if self.lost else self._call.attempt("nvmlDeviceGetMaxMigDeviceCount", self._handle)
        for number in range(known(count, MOST_INSTANCES) or 0):
            find_handle = partial(self._call, "nvmlDeviceGetMigDeviceHandleByIndex", self._handle, number)
            with suppress(GpuError):
                find_handle()
                yield number, find_handle

    def memory(self) -> Memory | None:
        """Read memory in use, free and total; None, logged once, for a GPU that answers without reporting them.

        GPUs that share the host's memory have no memory of their own.
        """
        if self.lost:
            raise GpuError("GPU_IS_LOST")
        try:
            reading = self._call("nvmlDeviceGetMemoryInfo", self._handle)
        except GpuError as error:
            if error.code in LOST or not self._answers():
                self.lost = True
                raise
            self._call.note(error.code)
            self._log_without_memory(error.code)
            return None
        total = known(reading.total)
        used, free = known(reading.used, total or 0), known(reading.free, total or 0)
        if used is None or not total:
            self._log_without_memory("NO_DATA")
            return None
        return Memory(used=used, total=total, free=free)

    def utilization(self) -> Utilization:
        """Read power, instantaneous where the driver reports it, and the duty cycles."""
        rates = self._call.optional("nvmlDeviceGetUtilizationRates", self._handle)
        return Utilization(
            power_watts=self._power_watts(),
            utilization=None if rates is None else percent(rates.gpu),
            memory_utilization=None if rates is None else percent(rates.memory),
        )

    def busy_time(self) -> BusyTime | None:
        """Read the driver's utilization buffer; None if there is none."""
        return self._utilization.read(self._handle)

    def status(self) -> Status:
        """Read energy, temperature, clocks and ECC counts."""
        return Status(
            energy_joules=self._scaled(MILLI, "nvmlDeviceGetTotalEnergyConsumption"),
            temperature_celsius=self._scaled(1, "nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            sm_clock_hertz=self._scaled(MEGAHERTZ, "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            memory_clock_hertz=self._scaled(MEGAHERTZ, "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM),
            ecc_corrected=self._ecc_errors(self._nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc_errors(self._nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        )

    def xids(self) -> Xids | None:
        """Read the XID errors so far, from the driver's pending events."""
        return self._xids.poll(None if self.lost else self._handle)

    def pcie(self) -> Pcie:
        """Read PCIe traffic; the driver measures for 20 ms in each direction."""
        return Pcie(
            sent=self._scaled(PCIE_UNIT_BYTES, "nvmlDeviceGetPcieThroughput", self._nvml.NVML_PCIE_UTIL_TX_BYTES),
            received=self._scaled(PCIE_UNIT_BYTES, "nvmlDeviceGetPcieThroughput", self._nvml.NVML_PCIE_UTIL_RX_BYTES),
        )

    def processes(self) -> Processes:
        """Read memory by compute process; leave out a process whose memory the driver does not report."""
        running = self._call.optional("nvmlDeviceGetComputeRunningProcesses", self._handle) or []
        used: dict[int, int] = {}
        for each in running:  # a process with several contexts may be listed several times
            if (size := known(each.usedGpuMemory)) is not None:
                used[each.pid] = used.get(each.pid, 0) + size
        return Processes(tuple(used.items()))

    def take_failures(self) -> list[str]:
        """Return the codes of the fields that failed since the last call."""
        failures: list[str] = []
        with suppress(IndexError):  # another thread may take the last one
            while True:
                failures.append(self._call.failures.popleft())
        return failures

    def release(self) -> None:
        """Free what NVML keeps for this GPU, before NVML is shut down."""
        self._xids.close()

    def reopen(self) -> None:
        """Get a new handle, by UUID if it is known and unique: indices move when a GPU vanishes.

        Raises:
            GpuError: the GPU is still lost.
        """
        self.release()
        self._restart()
        self._identify(self.info.uuid if self.is_unique else "")

    def _identify(self, uuid: str = "") -> None:
        handle = self._call("nvmlDeviceGetHandleByUUID", uuid) if uuid else self._find_handle()
        name, uuid = self._call.optional("nvmlDeviceGetName", handle), self._call.optional("nvmlDeviceGetUUID", handle)
        line = " ".join(plain(str(name or "")).split())  # the name is logged, too
        self.info = replace(self.info, uuid=str(uuid or self.info.uuid), name=line or self.info.name)
        self._handle = handle
        self.lost = False

    def _answers(self) -> bool:
        """Return whether the GPU still reports its identity."""
        identity = ("nvmlDeviceGetUUID", "nvmlDeviceGetName")
        return any(self._call.attempt(function, self._handle) is not None for function in identity)

    def _log_without_memory(self, code: str) -> None:
        if not self._has_logged_no_memory:
            self._has_logged_no_memory = True
            name = f"GPU {self.info.gpu} ({self.info.name})"
            _LOG.warning("%s does not report its memory: %s. Its other series are served.", name, code)

    def _scaled(self, unit: float, function: str, *arguments: Any) -> float | None:
        value = self._call.number(function, self._handle, *arguments)
        return None if value is None else value * unit

    def _power_watts(self) -> float | None:
        fields = self._call.optional("nvmlDeviceGetFieldValues", self._handle, [self._nvml.NVML_FI_DEV_POWER_INSTANT])
        if fields and fields[0].nvmlReturn == self._nvml.NVML_SUCCESS:
            milliwatts = known(fields[0].value.uiVal)
            if milliwatts is not None:
                return milliwatts * MILLI
        return self._scaled(MILLI, "nvmlDeviceGetPowerUsage")

    def _ecc_errors(self, kind: int) -> int | None:
        return self._call.number("nvmlDeviceGetTotalEccErrors", self._handle, kind, self._nvml.NVML_AGGREGATE_ECC)
