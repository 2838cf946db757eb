"""Ticks that do not drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from exporter.gpu.latest import Clock
from exporter.gpu.sampler import Ticks

if TYPE_CHECKING:
    from tests.exporter.conftest import FakeTime


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=50))
def test_ticks_never_drift(work_seconds: list[float]) -> None:
    """A loop that sleeps "10 ms after the work" falls behind forever; every tick must lie on the first one's grid."""
    now = 50.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    grid = Ticks(0.010, Clock(lambda: now, lambda: now, sleep))
    ticks = 0
    for work in work_seconds:
        ticks += grid.wait() + 1
        due = 50.0 + (ticks - 1) * 0.010
        assert due - 1e-9 <= now < due + 0.010 + 1e-9
        now += work


def test_missed_deadlines_are_counted(fake_time: FakeTime) -> None:
    """A gap in the samples must be visible, not silently closed up."""
    ticks = Ticks(0.010, Clock(fake_time.monotonic, fake_time.wall, fake_time.sleep))
    assert ticks.wait() == 0
    fake_time.now += 0.055
    assert ticks.wait() == 4
