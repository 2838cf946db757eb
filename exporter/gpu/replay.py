"""Plays a recording as GPUs, for tests and demonstrations; their info series have backend="replay"."""

from __future__ import annotations

import csv
import math
import re
import time
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from exporter.errors import UsageError
from exporter.files import check_file
from exporter.gpu.readings import GpuInfo, Memory, Status, Utilization

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

BACKEND = "replay"
COLUMNS = ("ts_ms", "mem_used_bytes", "sm_util_pct", "mem_util_pct", "power_mw", "sm_mhz", "temp_c")
MOST = 2.0**53
MOST_GPUS = 128
GPU_PATTERN = re.compile(r"[0-9]{1,4}(:[0-9]{1,4})?")
MEGAHERTZ = 1_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One row: time in ms, and the readings at that time; an empty cell is None."""

    ts_ms: float
    memory: Memory
    utilization: Utilization
    status: Status


class ReplayReader:
    """Plays a recorded CSV in a loop, starting when it is opened.

    The columns are those of the exporter's raw log: `COLUMNS`, and `gpu` if there is more than one GPU.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._traces = read_traces(path)
        self._name = f"replay of {path.name}"
        self._clock = clock

    def open(self) -> list[ReplayDevice]:
        """Start to play; return one device per GPU in the recording."""
        return [ReplayDevice(self._info(gpu), trace, self._clock) for gpu, trace in self._traces.items()]

    def _info(self, gpu: str) -> GpuInfo:
        index, uuid = gpu.partition(":")[0], f"{BACKEND}-{gpu}"
        return GpuInfo(gpu=gpu, index=index, uuid=uuid, name=self._name, driver="none", backend=BACKEND)


class ReplayDevice:
    """One GPU of a recording; see `GpuDevice`. Readings that were not recorded are None."""

    def __init__(self, info: GpuInfo, trace: Sequence[Frame], clock: Callable[[], float]) -> None:
        self.info = info
        self._trace = trace
        self._times_ms = [frame.ts_ms for frame in trace]
        self._clock = clock
        self._start = clock()

    def memory(self) -> Memory:
        """Return the memory recorded at this point."""
        return self._frame().memory

    def utilization(self) -> Utilization:
        """Return the power and duty cycles recorded at this point."""
        return self._frame().utilization

    def busy_time(self) -> None:
        """Return None: a trace has no driver buffer."""

    def status(self) -> Status:
        """Return the temperature and clock recorded at this point."""
        return self._frame().status

    def xids(self) -> None:
        """Return None: XID errors are not recorded."""

    def take_failures(self) -> list[str]:
        """Return an empty list: a recording does not fail."""
        return []

    def pcie(self) -> None:
        """Return None: PCIe traffic is not recorded."""

    def processes(self) -> None:
        """Return None: processes are not recorded."""

    def reopen(self) -> None:
        """Do nothing: a recording is never lost."""

    def _frame(self) -> Frame:
        first_ms, last_ms = self._times_ms[0], self._times_ms[-1]
        elapsed_ms = (self._clock() - self._start) * 1000
        at_ms = first_ms + (elapsed_ms % (last_ms - first_ms) if last_ms > first_ms else 0)
        return self._trace[bisect_right(self._times_ms, at_ms) - 1]


def read_traces(path: Path) -> dict[str, list[Frame]]:
    """Read a recording: GPU label -> frames in order of time.

    Raises:
        UsageError: the file cannot be read, lacks a column, is empty, has an invalid number, or runs backwards.
    """
    check_file(path, "Use a recorded CSV.", most_bytes=None)
    traces: dict[str, list[Frame]] = {}
    try:
        with path.open(newline="") as stream:
            rows = csv.DictReader(stream)
            if missing := [column for column in COLUMNS[:2] if column not in (rows.fieldnames or ())]:
                raise UsageError(f"{path} has no column {missing[0]!r}.", f"A recording has {', '.join(COLUMNS)}.")
            for row in rows:
                traces.setdefault(_gpu(row), []).append(_frame(row))
                if len(traces) > MOST_GPUS:
                    raise UsageError(f"{path} contains more than {MOST_GPUS} GPUs.", "Remove some of them.")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Use a recorded CSV.") from error
    except (ValueError, TypeError, csv.Error) as error:
        line = sum(len(trace) for trace in traces.values()) + 2
        raise UsageError(f"{path}, line {line}, is not a row of numbers.", "Record it again, or fix it.") from error
    if not traces:
        raise UsageError(f"{path} contains no samples.", "Record at least one.")
    for trace in traces.values():
        if any(later.ts_ms <= earlier.ts_ms for earlier, later in pairwise(trace)):
            raise UsageError(f"{path} runs backwards in time.", "Sort it by ts_ms.")
    return traces


def _gpu(row: Mapping[str, str]) -> str:
    gpu = row.get("gpu") or "0"
    if not GPU_PATTERN.fullmatch(gpu):
        raise ValueError(gpu)  # it becomes a label
    return gpu


def _frame(row: Mapping[str, str]) -> Frame:
    def number(column: str, unit: float = 1, most: float = MOST) -> float | None:
        return _within(float(row[column]), most) * unit if row.get(column) else None

    ts_ms = float(row["ts_ms"])
    if not math.isfinite(ts_ms):
        raise ValueError(ts_ms)  # it would stop the replay's clock
    return Frame(
        ts_ms=ts_ms,
        memory=Memory(used=int(_within(int(row["mem_used_bytes"]), MOST))),
        utilization=Utilization(
            number("power_mw", 0.001), number("sm_util_pct", 0.01, 100), number("mem_util_pct", 0.01, 100)
        ),
        status=Status(temperature_celsius=number("temp_c"), sm_clock_hertz=number("sm_mhz", MEGAHERTZ)),
    )


def _within(value: float, most: float) -> float:
    """Return a value if it lies in 0 to `most`, as for a driver's values."""
    if not 0 <= value <= most:
        raise ValueError(value)
    return value
