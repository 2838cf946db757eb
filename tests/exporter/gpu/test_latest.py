"""What is served is true now, or not served."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.gpu.latest import Clock, GpuRecord, expose_memory
from exporter.gpu.readings import Memory, Status, Utilization

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeTime


def test_before_the_first_reading_nothing_is_known(record: GpuRecord) -> None:
    """A start-up must not show zeros."""
    assert record.fresh(Memory) is None
    assert record.age_seconds is None
    assert not record.is_up


def test_row_03_old_readings_are_not_served(record: GpuRecord, fake_time: FakeTime) -> None:
    """Fault row 3: while a call hangs, the age grows and no frozen value is shown."""
    record.put_memory(Memory(used=1), fake_time.now)
    record.put(Utilization(power_watts=2.0))
    fake_time.now += 1.9
    assert record.fresh(Memory) == Memory(used=1)
    fake_time.now += 0.2
    assert record.fresh(Memory) is None
    assert record.fresh(Utilization) is None
    assert record.age_seconds == pytest.approx(2.1)


def test_a_slow_tier_that_hangs_hides_only_itself(record: GpuRecord, fake_time: FakeTime) -> None:
    """Energy can hang while memory answers."""
    record.put(Status(energy_joules=1.0))
    for _ in range(35):
        fake_time.now += 0.1
        record.put_memory(Memory(used=1), fake_time.now)
    assert record.fresh(Memory) is not None
    assert record.fresh(Status) is None


def test_nothing_is_served_while_memory_is_not_read(record: GpuRecord, fake_time: FakeTime) -> None:
    """After a loss a slow thread may still deliver an old value: it must not appear."""
    record.put_memory(Memory(used=1), fake_time.now)
    record.clear()
    record.put(Utilization(power_watts=2.0))
    assert record.fresh(Utilization) is None


@given(st.lists(st.integers(-3_000, 500), max_size=40))
def test_the_memory_timeline_ascends(steps_ms: list[int]) -> None:
    """Prometheus drops what does not ascend, also when the wall clock is set back or two ticks share a millisecond."""
    now = [1_000_000.0]
    record = GpuRecord(NamedDevice(), Clock(lambda: 0.0, lambda: now[0], lambda _: None), depth=100)  # type: ignore[arg-type]
    for step_ms in steps_ms:
        now[0] += step_ms / 1000
        record.put_memory(Memory(used=1), 0.0)
        times = [sample.ts_ms for sample in record.timeline]
        assert all(earlier < later for earlier, later in pairwise(times))


def test_the_timeline_sends_the_window_and_no_more(record: GpuRecord, fake_time: FakeTime) -> None:
    """Three seconds survive a missed scrape or two; a GPU that died an hour ago sends nothing."""
    for _ in range(500):
        fake_time.now += 0.010
        record.put_memory(Memory(used=7), fake_time.now)
    now_ms = int(fake_time.wall() * 1000)
    lines = expose_memory([record], now_ms).decode().splitlines()
    assert len(lines) == 2 + 300
    assert lines[-1] == f'nvml_timeline_memory_used_bytes{{gpu="0"}} 7 {now_ms}'
    assert len(expose_memory([record], now_ms + 3_600_000).decode().splitlines()) == 2


def test_a_clock_set_back_loses_no_sample(record: GpuRecord, fake_time: FakeTime) -> None:
    """The timeline begins anew, but the raw log has yet to write what came before."""
    record.put_memory(Memory(used=1), fake_time.now)
    fake_time.now -= 3600
    record.put_memory(Memory(used=2), fake_time.now)
    assert [sample.used_bytes for sample in record.timeline] == [2]
    assert [(sample.used_bytes, sample.epoch) for sample in record.samples] == [(1, 0), (2, 1)]


class NamedDevice:
    """A device of which only the record's owner is asked."""

    info = None
