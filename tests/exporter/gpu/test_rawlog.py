"""The raw log is the record: complete, replayable, bounded, and no reason to stop serving."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from exporter.errors import StorageError
from exporter.gpu.rawlog import RawLog, RawLogMetrics
from exporter.gpu.rawlog_files import HEADER
from exporter.gpu.readings import Status, Utilization
from exporter.gpu.replay import read_traces
from tests.exporter.rawlogs import fill

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.gpu.latest import GpuRecord
    from tests.exporter.conftest import FakeTime


def test_what_is_logged_replays_as_it_was(tmp_path: Path, record: GpuRecord, fake_time: FakeTime) -> None:
    """A run can be looked at again only if its log is a recording."""
    fill(record, fake_time, 2)
    record.put(Utilization(power_watts=350.0, utilization=0.5))
    record.put(Status(temperature_celsius=41.0, sm_clock_hertz=1.98e9))
    fill(record, fake_time, 1)
    log = RawLog(tmp_path, lambda: [record], RawLogMetrics(CollectorRegistry()))
    log.start()
    log.stop()
    (path,) = tmp_path.iterdir()
    (frames,) = read_traces(path).values()
    assert [frame.ts_ms for frame in frames] == [sample.ts_ms for sample in record.samples]
    assert frames[0].utilization == Utilization()
    assert frames[2].utilization == Utilization(power_watts=350.0, utilization=0.5)
    assert frames[2].status == Status(temperature_celsius=41.0, sm_clock_hertz=1.98e9)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_sample_is_written_once(tmp_path: Path, record: GpuRecord, fake_time: FakeTime) -> None:
    """The samples overlap from one write to the next; the record must not."""
    registry = CollectorRegistry()
    log = RawLog(tmp_path, lambda: [record], RawLogMetrics(registry))
    for count in (3, 0, 150):
        fill(record, fake_time, count)
        log.write()
    log.stop()
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) == 1 + 153
    assert registry.get_sample_value("hop2rag_exporter_raw_log_rows_total") == 153


def test_files_are_rotated_and_the_oldest_deleted(tmp_path: Path, record: GpuRecord, fake_time: FakeTime) -> None:
    """An exporter left alone for a year must not fill the disk."""
    log = RawLog(
        tmp_path,
        lambda: [record],
        RawLogMetrics(CollectorRegistry()),
        wall=fake_time.wall,
        max_file_bytes=200,
        kept_files=3,
    )
    for _ in range(8):
        fill(record, fake_time, 10)
        fake_time.now += 1
        log.write()
    log.stop()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert all(path.read_text().startswith(HEADER) for path in files)


def test_a_directory_that_cannot_be_written_is_refused_at_start(tmp_path: Path) -> None:
    """After a night's run is too late to learn that nothing was recorded."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"--raw-log\.directory") as caught:
        RawLog(tmp_path / "file", list, RawLogMetrics(CollectorRegistry()))
    assert caught.value.exit_code == 5
