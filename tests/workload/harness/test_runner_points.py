"""Which points of a block are still to be measured when a run goes on."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.stubs.run import measured
from workload.corpus.document import Mark, StoreWatch
from workload.experiment import Arm, Point, levels
from workload.harness.measurement import Measurement
from workload.harness.runner import Block, Runner
from workload.record.history import History
from workload.services.targets import ArmLabels
from workload.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.record.results import Measured

ARM = Arm("prefix-on", "prefix-on")
SWEEP, OPENED, CLOSED = Point("c1", 1, contexts=(512,)), Point("c1", 8, arrivals=(0.0, 1.0)), Point("c1", 1)


def is_open(point: Point, windows: tuple[Measured, ...] = ()) -> bool:
    """Return whether a point is open after these windows."""
    return Runner._is_open(
        cast("Runner", SimpleNamespace(history=History(windows, {}, {}, {}))), Block(0, ARM, [], 0), point
    )


@pytest.mark.parametrize("point", [SWEEP, OPENED, CLOSED])
def test_what_has_a_window_is_done(point: Point) -> None:
    """An open loop may drop questions, a sweep asks none, and a kill may fall between an answer and its window."""
    assert is_open(point)
    assert not is_open(point, (measured(),))
    assert is_open(point, (measured("prefix-off"),))


def test_a_wide_level_asks_enough_for_each_worker() -> None:
    """Twenty questions for 64 workers are all ramp: the workers are never all busy at once."""
    settings = Settings.of({"limit": 20, "max_hops": 3, "k": 10, "concurrency": (1, 8, 64), "rounds": 3})
    assert [point.questions for point in levels(settings.load)] == [20, 24, 192]
    assert [point.questions for point in levels(settings.changed(rounds=None).load)] == [20, 20, 20]


async def test_a_window_reports_that_the_store_changed() -> None:
    """Its questions and those after it met other documents than those before."""
    said = io.StringIO()
    reported = iter((Mark(5, 5), Mark(5, 6), Mark(5, 6)))
    watch = StoreWatch(cast("Any", SimpleNamespace(mark=lambda: next(reported))))
    mine = cast("Any", SimpleNamespace(store=watch, progress=Progress(console=Console(file=said, width=200))))
    changes = [await Measurement._change_of_store(mine, measured().window) for _ in range(2)]
    assert changes == ["5 documents after write 5, then 5 documents after write 6", "no"]
    assert "The store changed in" in said.getvalue()


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
    parts = cast(
        "Runner",
        SimpleNamespace(bundle=bundle, annotate=annotate, settings=SimpleNamespace(load=SimpleNamespace(limit=2))),
    )
    await Runner._points(parts, measurement, [CLOSED], [], [], "t", measured=[])
    assert seen == [1, (1000.0, 1060.0, "vllm-metrics: prefix-on, c1 (run r1)"), "timelines"]
