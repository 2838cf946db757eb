"""A recording plays as a GPU, and says that it is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.errors import UsageError
from exporter.gpu.replay import ReplayReader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.exporter.conftest import FakeTime

HEADER = "ts_ms,mem_used_bytes,sm_util_pct,mem_util_pct,power_mw,sm_mhz,temp_c\n"


def write(path: Path, text: str) -> Path:
    """Write a recording and return its path."""
    recording = path / "trace.csv"
    recording.write_text(text)
    return recording


def test_the_h200_recording_plays(recording: Path, fake_time: FakeTime) -> None:
    """The demonstration without a GPU must show what was measured on one."""
    (gpu,) = ReplayReader(recording, fake_time.monotonic).open()
    assert gpu.info.backend == "replay"
    assert "replay" in gpu.info.name
    assert gpu.memory().used == 136_132_296_704
    assert gpu.memory().total is None
    assert gpu.utilization().power_watts == pytest.approx(120.288)
    assert gpu.status().sm_clock_hertz == 1.98e9


def test_a_recording_loops(tmp_path: Path, fake_time: FakeTime) -> None:
    """A demonstration runs longer than a recording."""
    path = write(tmp_path, HEADER + "0,1,,,,,\n10,2,,,,,\n20,3,,,,,\n")
    (gpu,) = ReplayReader(path, fake_time.monotonic).open()
    fake_time.now += 0.005
    seen = []
    for _ in range(6):
        seen.append(gpu.memory().used)
        fake_time.now += 0.010
    assert seen == [1, 2, 1, 2, 1, 2]


def test_empty_cells_are_absent(tmp_path: Path, fake_time: FakeTime) -> None:
    """What was not recorded is not zero."""
    (gpu,) = ReplayReader(write(tmp_path, HEADER + "0,1,,,,,\n"), fake_time.monotonic).open()
    assert gpu.utilization().power_watts is None
    assert gpu.status().temperature_celsius is None


def test_several_gpus_in_one_recording(tmp_path: Path, fake_time: FakeTime) -> None:
    """The raw log of a host with two GPUs is one file."""
    path = write(tmp_path, "ts_ms,gpu,mem_used_bytes\n0,0,1\n0,1:0,2\n")
    devices = ReplayReader(path, fake_time.monotonic).open()
    assert [(gpu.info.gpu, gpu.info.index, gpu.memory().used) for gpu in devices] == [("0", "0", 1), ("1:0", "1", 2)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column 'ts_ms'"),
        ("ts_ms,power_mw\n1,2\n", "no column 'mem_used_bytes'"),
        (HEADER, "contains no samples"),
        (HEADER + "0,1,,,,,\n5,much,,,,,\n", "line 3, is not a row of numbers"),
        (HEADER + "0,1,,,,,\n5\n", "line 3, is not a row of numbers"),
        (HEADER + "5,1,,,,,\n4,1,,,,,\n", "runs backwards"),
    ],
)
def test_a_bad_recording_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    """A recording that was cut off or is another file must not play as half a GPU."""
    with pytest.raises(UsageError, match=reason):
        ReplayReader(write(tmp_path, text))


@pytest.mark.parametrize(
    "cells",
    [
        *("-5,1,1,1,1,1,0", f"{'9' * 400},1,1,1,1,1,0", f"{2**54},1,1,1,1,1,0"),  # memory
        *("5,nan,1,1,1,1,0", "5,101,1,1,1,1,0", "5,-1,1,1,1,1,0", "5,1,inf,1,1,1,0"),  # duty cycles
        *("5,1,1,-100,1,1,0", "5,1,1,1e400,1,1,0", "5,1,1,1,-5,1,0", "5,1,1,1,1,nan,0"),  # power, clock, temperature
        *('5,1,1,1,1,1,"0\n# HELP evil"', '5,1,1,1,1,1,"0""} 1\nevil{x="""', "5,1,1,1,1,1,a", "5,1,1,1,1,1,0:"),
        f"5,1,1,1,1,1,{'0' * 100_000}",
    ],
)
def test_no_recording_reports_what_no_gpu_can_have(tmp_path: Path, cells: str) -> None:
    """A recording may come from anywhere: its GPU names become labels, and an invalid number would fail the page."""
    columns = "ts_ms,mem_used_bytes,sm_util_pct,mem_util_pct,power_mw,sm_mhz,temp_c,gpu"
    with pytest.raises(UsageError, match=r"line 2, is not a row of numbers"):
        ReplayReader(write(tmp_path, f"{columns}\n1,{cells}\n"))


def test_a_recording_of_too_many_gpus_is_refused(tmp_path: Path) -> None:
    """Each has threads of its own."""
    rows = "".join(f"1,{gpu},5\n" for gpu in range(1000))
    with pytest.raises(UsageError, match="more than 128 GPUs"):
        ReplayReader(write(tmp_path, f"ts_ms,gpu,mem_used_bytes\n{rows}"))


def test_a_missing_recording_is_refused(tmp_path: Path) -> None:
    """A mistyped path is the user's to mend, without a traceback."""
    with pytest.raises(UsageError, match="No such file"):
        ReplayReader(tmp_path / "none.csv")


@pytest.mark.parametrize("path", ["/dev/zero", "fifo", ".", "a\0b"])
def test_what_is_no_file_is_refused(tmp_path: Path, path: str) -> None:
    """A FIFO blocks the start forever, and a device has no end."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match=r"is not a file|its name is not valid"):
        ReplayReader(tmp_path / path)
