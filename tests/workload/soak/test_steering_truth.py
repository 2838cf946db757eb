"""Who may steer, and for how long: what Prometheus confirms, what fires now, what fits into memory and patience."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.stubs.alerts import alert
from workload.errors import DependencyDownError
from workload.services.alert import from_api
from workload.soak import steering as steering_module
from workload.soak.actions import MOST_CAPTURES_WAITING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workload.conftest import Helm

DOWN, DOWN_ENDED = alert("VllmDown", "pause"), alert("VllmDown", "pause", "resolved")
QUEUE = alert("VllmQueueGrowing", "reduce")


@pytest.mark.parametrize(
    ("name", "action"), [("VllmQueueGrowing", "reduce"), ("VllmDown", "pause"), ("DiskWritesFailing", "stop")]
)
async def test_row_24_what_prometheus_does_not_report_is_not_done(
    helm: Callable[..., Helm], name: str, action: str
) -> None:
    """Whoever reaches Alertmanager may post an alert of any name: a page in a browser ended a soak within a second.

    When it comes true it is found, although the message is an old one by then.
    """
    bridge = helm(fires=set())
    assert await bridge.hear(alert(name, action))
    assert (bridge.pace.level, bridge.pace.pauses, bridge.pace.ending) == (8, set(), None)
    assert bridge.actions() == []
    assert bridge.registry.get_sample_value("hop2rag_soak_alerts_ignored_total", {"reason": "unconfirmed"}) == 1
    bridge.fires = {name}
    await bridge.hear(alert(name, action))
    assert bridge.actions() == [(action, name, "taken")]


async def test_row_24_an_end_that_prometheus_does_not_report_lifts_nothing(helm: Callable[..., Helm]) -> None:
    """A posted end would let a run send into an engine that is down."""
    bridge = helm(fires={"VllmDown"})
    await bridge.hear(DOWN)
    await bridge.hear(DOWN_ENDED)
    await bridge.steering.lift()
    assert bridge.pace.pauses == {"VllmDown"}
    bridge.fires = set()
    await bridge.hear(DOWN_ENDED)
    await bridge.steering.lift()
    assert bridge.pace.pauses == set()


async def test_while_prometheus_is_silent_nothing_is_done_and_nothing_forgotten(helm: Callable[..., Helm]) -> None:
    """The webhook answers 503, Alertmanager sends again; if the silence lasts, the heartbeat pauses the run anyway."""
    bridge = helm(is_silent=True)
    for reported in (DOWN, QUEUE, alert("DiskWritesFailing", "stop")):
        with pytest.raises(DependencyDownError):
            await bridge.hear(reported)
    assert (bridge.pace.level, bridge.pace.pauses, bridge.pace.ending) == (8, set(), None)
    bridge.is_silent = False
    await bridge.hear(DOWN)
    assert bridge.pace.pauses == {"VllmDown"}


async def test_beats_and_captures_wait_for_no_word_of_prometheus(helm: Callable[..., Helm]) -> None:
    """The heartbeat must not depend on what it watches, and a picture of the moment is of the moment."""
    bridge = helm(is_silent=True, now=500.0)
    await bridge.hear(alert("Hop2RagWatchdog", ""))
    await bridge.hear(alert("VllmKvCacheNearlyFull", "capture"))
    await bridge.effects.finish()
    assert bridge.steering.beaten_at == 500.0
    assert bridge.captured == ["VllmKvCacheNearlyFull"]
    assert bridge.asked == 0


@pytest.mark.parametrize("second", [60, -3600, 3599, 0])
@pytest.mark.parametrize(("name", "action"), [("VllmDown", "pause"), ("VllmQueueGrowing", "reduce")])
async def test_what_fires_now_counts_more_than_when_it_began(
    helm: Callable[..., Helm], name: str, action: str, second: int
) -> None:
    """The clock ran an hour ahead and was set back: every later beginning is "older" than the one that has ended."""
    bridge = helm()
    await bridge.hear(alert(name, action, second=3600))
    await bridge.hear(alert(name, action, "resolved", second=3600))
    await bridge.steering.lift()
    await bridge.hear(alert(name, action, second=second))
    assert bridge.steering.is_in_doubt
    await bridge.steering.reconcile([from_api(alert(name, action, second=second))])
    assert not bridge.steering.is_in_doubt
    assert (bridge.pace.pauses, bridge.pace.level) == (({"VllmDown"}, 8) if action == "pause" else (set(), 4))
    await bridge.steering.reconcile([])
    await bridge.steering.lift()
    assert (bridge.pace.pauses, bridge.pace.level) == (set(), 8)


async def test_a_pause_that_was_forgotten_is_lifted(helm: Callable[..., Helm]) -> None:
    """A thousand other alerts push it out of what is remembered, and its end is missed: it paused the run for ever."""
    bridge = helm()
    await bridge.hear(alert("VllmDown", "pause", instance="first"))
    await bridge.hear(*[alert("VllmKvCacheNearlyFull", "capture", instance=str(number)) for number in range(1100)])
    await bridge.steering.reconcile([])
    await bridge.steering.lift()
    assert bridge.pace.pauses == set()


async def test_row_24_a_storm_is_bounded_and_passes(helm: Callable[..., Helm]) -> None:
    """Thousands of engines are down at once: bounded memory, one canary a look, all lifted when they are back."""
    bridge = helm()
    await bridge.hear(*[alert("VllmDown", "pause", instance=str(number)) for number in range(3000)])
    await bridge.steering.lift()
    assert bridge.canaries == 1
    assert len(bridge.steering._in_force) == len(bridge.steering._latest) == steering_module.MOST_ALERTS
    await bridge.hear(*[alert("VllmDown", "pause", "resolved", instance=str(number)) for number in range(3000)])
    await bridge.steering.lift()
    assert (bridge.pace.pauses, bridge.steering._in_force, bridge.canaries) == (set(), {}, 2)


@pytest.mark.parametrize(
    ("hold", "ending"),
    [
        ("VllmDown", ("stopped by VllmDown", 6)),
        ("heartbeat", ("stopped by Hop2RagWatchdog", 6)),
        ("disk", ("stopped by a full disk", 5)),
        ("engine", None),
    ],
)
async def test_row_24_no_hold_outlasts_the_patience(
    helm: Callable[..., Helm], hold: str, ending: tuple[str, int] | None
) -> None:
    """A lost heartbeat paused a run for ten hours, to the end of its duration. The engine has a patience of its own."""
    bridge = helm()
    bridge.pace.pause(hold)
    bridge.now = 1800.0
    await bridge.steering.lift()
    assert bridge.pace.ending is None
    bridge.pace.pause(hold)
    bridge.now = 1801.0
    await bridge.steering.lift()
    assert bridge.pace.ending == ending


async def test_captures_come_one_at_a_time_and_delay_nothing_else(helm: Callable[..., Helm]) -> None:
    """Eight of a minute each took every thread there was: no question ended, and no checkpoint was written."""
    bridge, gate, running, most = helm(), threading.Event(), [0], [0]

    def slow(_: object, __: float) -> str:
        running[0] += 1
        most[0] = max(most[0], running[0])
        gate.wait(60)
        running[0] -= 1
        return "kept"

    bridge.effects._capture = slow
    await bridge.hear(*[alert("VllmKvCacheNearlyFull", "capture", instance=str(number)) for number in range(40)])
    for _ in range(64):
        assert await asyncio.wait_for(asyncio.to_thread(int, "7"), 60) == 7
    gate.set()
    await bridge.effects.finish()
    statuses = Counter(status for _, _, status in bridge.actions())
    assert most == [1]
    assert statuses["taken"] == 40
    assert statuses["done"] == MOST_CAPTURES_WAITING + 1
    assert statuses["failed"] == 40 - statuses["done"]


@pytest.mark.parametrize("error", [ValueError("NaN"), KeyError("x"), RuntimeError("no renderer"), OSError("gone")])
async def test_whatever_a_capture_raises_is_written_down(helm: Callable[..., Helm], error: Exception) -> None:
    """A picture that cannot be drawn is no reason for silence, and none to end a run."""
    bridge = helm()

    def broken(_: object, __: float) -> str:
        raise error

    bridge.effects._capture = broken
    await bridge.hear(alert("VllmKvCacheNearlyFull", "capture"))
    await bridge.effects.finish()
    assert [status for _, _, status in bridge.actions()] == ["taken", "failed"]
