"""The raw log on a disk that is full, fails or hangs, at whatever point, and under a clock that is set back."""

from __future__ import annotations

import errno
from threading import Event
from typing import TYPE_CHECKING

import pytest

from exporter.gpu import rawlog_files
from exporter.gpu.rawlog import RawLog, RawLogMetrics
from exporter.gpu.rawlog_files import HEADER
from tests.exporter.rawlogs import Disk, counted, fill, logged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from exporter.gpu.latest import GpuRecord
    from tests.exporter.conftest import FakeTime


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Put a disk that can be full under the raw log."""
    disk = Disk()
    monkeypatch.setattr(rawlog_files, "os", disk)
    return disk


@pytest.fixture
def log(tmp_path: Path, record: GpuRecord, fake_time: FakeTime, registry: CollectorRegistry) -> Iterator[RawLog]:
    """Return a log of one GPU, of small files, that is written when a test says so."""
    log = RawLog(tmp_path, lambda: [record], RawLogMetrics(registry), wall=fake_time.wall, max_file_bytes=500)
    yield log
    log.stop()


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_costs_nothing_once_there_is_room(
    tmp_path: Path,
    log: RawLog,
    record: GpuRecord,
    fake_time: FakeTime,
    disk: Disk,
    registry: CollectorRegistry,
    room: int,
) -> None:
    """Rows cut in half would spoil the record; rows forgotten would leave a hole."""
    fill(record, fake_time, 10)
    disk.room = room
    log.write()
    assert counted(registry) == (0, 1)
    disk.room = None
    log.write()
    assert counted(registry) == (10, 1)
    assert sum(map(len, logged(tmp_path))) == 10


@pytest.mark.parametrize("room", [0, 1, len(HEADER) - 1])
def test_row_25_a_disk_that_is_full_when_a_file_is_begun_costs_nothing(
    tmp_path: Path,
    log: RawLog,
    record: GpuRecord,
    fake_time: FakeTime,
    disk: Disk,
    registry: CollectorRegistry,
    room: int,
) -> None:
    """The old file was closed first, and each later write failed on a closed file until the thread ended."""
    fill(record, fake_time, 30)
    log.write()
    disk.room = room
    for _ in range(3):
        fill(record, fake_time, 1)
        log.write()
    assert counted(registry) == (30, 3)
    assert len(list(tmp_path.iterdir())) == 1  # nothing of a file that could not be begun
    disk.room = None
    log.write()
    assert counted(registry) == (33, 3)
    assert [len(rows) for rows in logged(tmp_path)] == [30, 3]


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "I/O error"), OSError(errno.EDQUOT, "Quota"), ValueError("closed")]
)
def test_a_failing_write_is_counted_and_said_once(
    log: RawLog,
    record: GpuRecord,
    fake_time: FakeTime,
    disk: Disk,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Fault row 15's neighbour: no failure of a disk ends the thread, nor fills a log with a line a second."""
    fill(record, fake_time, 1)
    disk.error = error  # type: ignore[assignment]
    for _ in range(5):
        log.write()
    assert counted(registry) == (0, 5)
    assert len(caplog.records) == 1
    disk.error = None
    log.write()
    assert counted(registry) == (1, 5)


def test_row_25_a_clock_set_back_begins_a_new_file_and_loses_no_row(
    tmp_path: Path, log: RawLog, record: GpuRecord, fake_time: FakeTime
) -> None:
    """A file whose times run backwards cannot be replayed; a row that was not yet written must not be forgotten."""
    fill(record, fake_time, 3)
    log.write()
    fill(record, fake_time, 2)
    before = [sample.used_bytes for sample in record.samples]
    fake_time.now -= 3600
    fill(record, fake_time, 4)
    after = [sample.used_bytes for sample in record.timeline]
    log.write()
    assert sorted(logged(tmp_path)) == sorted([before, after])
    fake_time.now += 7200
    fill(record, fake_time, 1)
    log.write()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, record: GpuRecord, fake_time: FakeTime, disk: Disk, registry: CollectorRegistry
) -> None:
    """A dead network file system blocks a write forever; the process must still be able to end."""
    log, hangs, writing = RawLog(tmp_path, lambda: [record], RawLogMetrics(registry)), Event(), Event()

    def hang(_: int, __: bytes) -> int:
        writing.set()
        hangs.wait()
        raise OSError(errno.EIO, "I/O error")

    disk.write = hang  # type: ignore[method-assign]
    fill(record, fake_time, 1)
    log.start()
    writing.wait()
    log.stop(patience_seconds=0.0)
    hangs.set()
    log.stop()
