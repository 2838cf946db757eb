"""Which points of a block are still to be measured when a run goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tests.stubs.run import measured
from workload.experiment import Arm, Point, levels
from workload.history import History
from workload.runner import Runner
from workload.settings import Settings
from workload.targets import ArmLabels
from workload.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.measurement import Measurement
    from workload.results import Measured

ARM = Arm("prefix-on", "prefix-on")
SWEEP, OPENED, CLOSED = Point("c1", 1, contexts=(512,)), Point("c1", 8, arrivals=(0.0, 1.0)), Point("c1", 1)


def is_open(point: Point, windows: tuple[Measured, ...] = ()) -> bool:
    """Return whether a point is open after these windows."""
    return Runner._is_open(
        cast("Runner", SimpleNamespace(history=History(windows, {}, {}, {}))), Turn(0, ARM, [], 0), point
    )


@pytest.mark.parametrize("point", [SWEEP, OPENED, CLOSED])
def test_what_has_a_window_is_done(point: Point) -> None:
    """An open loop may drop questions, a sweep asks none, and a kill may fall between an answer and its window."""
    assert is_open(point)
    assert not is_open(point, (measured(),))
    assert is_open(point, (measured("prefix-off"),))


def test_a_wide_level_asks_enough_for_each_worker() -> None:
    """Twenty questions for 64 workers are all ramp: nobody is ever busy beside everybody else."""
    settings = Settings(limit=20, max_hops=3, k=10, concurrency=(1, 8, 64), rounds=3)
    assert [point.questions for point in levels(settings)] == [20, 24, 192]
    assert [point.questions for point in levels(settings.model_copy(update={"rounds": None}))] == [20, 20, 20]


async def test_a_window_is_marked_once_it_is_on_disk() -> None:
    """A mark for a window that no manifest knows would show a measurement that cannot be found again."""
    seen: list[object] = []

    async def point(*_: object) -> Measured:
        return measured("prefix-on")

    async def timelines() -> None:
        seen.append("timelines")

    def annotate(start: float, end: float | None, text: str, _: Sequence[str]) -> None:
        seen.append((start, end, text))

    bundle = SimpleNamespace(note=lambda measured: seen.append(len(measured)))
    labels = ArmLabels("r1", "vllm-metrics", "prefix-on")
    measurement = cast("Measurement", SimpleNamespace(point=point, labels=labels, timelines=timelines))
    parts = cast("Runner", SimpleNamespace(bundle=bundle, annotate=annotate, settings=SimpleNamespace(limit=2)))
    await Runner._points(parts, measurement, [CLOSED], [], [], "t", [])
    assert seen == [1, (1000.0, 1060.0, "vllm-metrics: prefix-on, c1 (run r1)"), "timelines"]
