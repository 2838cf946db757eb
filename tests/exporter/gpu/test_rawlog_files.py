"""The raw log in a folder with other files: it deletes only its own, and notices when they are changed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from exporter.gpu.rawlog import RawLog, RawLogMetrics
from exporter.gpu.rawlog_files import HEADER
from tests.exporter.rawlogs import counted, fill, logged

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from exporter.gpu.latest import GpuRecord
    from tests.exporter.conftest import FakeTime


@pytest.mark.parametrize("meddle", ["unlink", "rename", "truncate", "replace", "folder"])
def test_a_file_that_somebody_takes_away_is_begun_anew(
    tmp_path: Path, record: GpuRecord, fake_time: FakeTime, registry: CollectorRegistry, meddle: str
) -> None:
    """A log rotation of the host's, or a cleaner, must not send the record of a night into a file without a name."""
    folder = tmp_path / "raw"
    log = RawLog(folder, lambda: [record], RawLogMetrics(registry), wall=fake_time.wall)
    fill(record, fake_time, 3)
    log.write()
    (path,) = folder.iterdir()
    if meddle == "unlink":
        path.unlink()
    elif meddle == "rename":
        path.rename(tmp_path / "moved.csv")
    elif meddle == "truncate":
        path.write_text("")
    elif meddle == "replace":
        path.unlink()
        path.write_text(HEADER)
    else:
        shutil.rmtree(folder)
    fill(record, fake_time, 2)
    log.write()
    log.stop()
    late = [sample.used_bytes for sample in record.samples][3:]
    assert late in logged(folder)
    assert counted(registry) == (5, 0)


KEPT = "nvml_20261130T000000_{:02d}.csv"
OTHERS = {
    "nvml_h200_00.csv": HEADER,  # a recording that somebody named
    KEPT.format(90): "ts_ms\n",  # our name, somebody's content
    KEPT.format(91): "",
    "nvml_20261130T000000_00.csv.gz": HEADER,
    "notes.txt": "mine",
}


def test_row_25_only_files_of_its_own_are_deleted(
    tmp_path: Path, record: GpuRecord, fake_time: FakeTime, registry: CollectorRegistry
) -> None:
    """A folder of recordings is a likely place for a raw log; it deleted sixteen of them, or the file it had begun."""
    for name, text in OTHERS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / KEPT.format(92)).symlink_to(tmp_path / "notes.txt")
    (tmp_path / KEPT.format(93)).mkdir()
    os.mkfifo(tmp_path / KEPT.format(94))
    others = {path.name for path in tmp_path.iterdir()}
    for number in range(5):
        (tmp_path / KEPT.format(number)).write_text(HEADER)
    log = RawLog(
        tmp_path,
        lambda: [record],
        RawLogMetrics(registry),
        wall=lambda: 60.0,  # a clock that shows 1970 until it is set
        max_file_bytes=200,
        kept_files=3,
    )
    for _ in range(4):
        fill(record, fake_time, 10)
        log.write()
    log.stop()
    left = {path.name for path in tmp_path.iterdir()}
    assert others <= left
    # begun last, kept last, though the clock says that they are the oldest
    assert left - others == {f"nvml_19700101T000100_{number:02d}.csv" for number in (1, 2, 3)}
    assert counted(registry) == (40, 0)
