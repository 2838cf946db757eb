"""What alerts do to a run: once each, in whatever order they come, and undone only after a proof."""

from __future__ import annotations

import asyncio
import random
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from tests.stubs.alerts import alert
from workload.services.alert import from_api, steering_alerts
from workload.soak import steering as steering_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workload.conftest import Helm

DOWN, HUNG = alert("VllmDown", "pause"), alert("VllmHung", "pause")
DOWN_ENDED = alert("VllmDown", "pause", "resolved")
QUEUE, QUEUE_ENDED = alert("VllmQueueGrowing", "reduce"), alert("VllmQueueGrowing", "reduce", "resolved")


async def test_row_11_a_thousand_duplicates_are_one_action(helm: Callable[..., Helm]) -> None:
    """Alertmanager delivers at least once and repeats by design; halving once more each time would stop the run."""
    bridge = helm()
    news = [await bridge.hear(QUEUE) for _ in range(1000)]
    assert news.count(True) == 1
    assert bridge.pace.level == 4
    assert bridge.actions() == [("reduce", "VllmQueueGrowing", "taken")]
    assert bridge.counted() == {("reduce", "VllmQueueGrowing"): 1}


async def test_row_11_one_beginning_acts_once_in_whatever_group_it_comes(helm: Callable[..., Helm]) -> None:
    """The key of a group changes when a second alert joins it: what counts then is the alert's own beginning."""
    bridge = helm()
    await bridge.hear(QUEUE)
    await bridge.hear(QUEUE, DOWN)
    await bridge.hear(DOWN, QUEUE)
    assert bridge.counted() == {("reduce", "VllmQueueGrowing"): 1, ("pause", "VllmDown"): 1}


async def test_row_11_the_latest_state_wins_in_any_order(helm: Callable[..., Helm]) -> None:
    """A `firing` that was overtaken by its own `resolved` must not pause a run that nothing will ever lift."""
    messages = [
        alert("VllmDown", "pause", "firing", 0),
        alert("VllmDown", "pause", "resolved", 0),
        alert("VllmDown", "pause", "firing", 300),
        alert("VllmDown", "pause", "resolved", 300),
    ]
    bridge = helm()
    for order in permutations(messages):
        bridge.steering._latest.clear()
        bridge.steering._keys.clear()
        for one in order:
            await bridge.hear(one)
        assert bridge.steering.firing() == {}
        await bridge.steering.lift()
        assert bridge.pace.pauses == set()
    assert bridge.counted()["pause", "VllmDown"] >= len(list(permutations(messages))) // 2


async def test_row_13_a_resolved_alone_lifts_nothing(helm: Callable[..., Helm]) -> None:
    """A series that went stale resolves its alert; only an answered canary says that the engine is well."""
    bridge = helm()
    await bridge.hear(DOWN)
    assert bridge.pace.pauses == {"VllmDown"}
    bridge.answers.clear()
    await bridge.hear(DOWN_ENDED)
    lifting = asyncio.create_task(bridge.steering.lift())
    await asyncio.sleep(0.01)
    assert bridge.pace.pauses == {"VllmDown"}
    bridge.answers.set()
    await lifting
    assert bridge.pace.pauses == set()
    await bridge.journal.acknowledge()
    assert bridge.actions() == [("pause", "VllmDown", "taken"), ("lift", "VllmDown", "taken")]


async def test_a_canary_alone_lifts_nothing_while_the_alert_fires(helm: Callable[..., Helm]) -> None:
    """A lost GPU or a spent error budget does not show in one token: both proofs are wanted."""
    bridge = helm()
    await bridge.hear(DOWN)
    await bridge.steering.lift()
    assert bridge.canaries == 1
    assert bridge.pace.pauses == {"VllmDown"}


async def test_row_13_an_alert_that_comes_back_during_the_proof_stays_in_force(helm: Callable[..., Helm]) -> None:
    """The proof was of an engine that then failed again."""
    bridge = helm()
    await bridge.hear(DOWN)
    await bridge.hear(DOWN_ENDED)
    bridge.answers.clear()
    lifting = asyncio.create_task(bridge.steering.lift())
    await asyncio.sleep(0)
    await bridge.hear(alert("VllmDown", "pause", "firing", 300))
    bridge.answers.set()
    await lifting
    assert bridge.pace.pauses == {"VllmDown"}
    assert bridge.counted() == {("pause", "VllmDown"): 1}


async def test_a_reduction_is_undone_step_by_step(helm: Callable[..., Helm]) -> None:
    """Two alerts halve twice; the end of one gives back half of that."""
    bridge = helm()
    await bridge.hear(QUEUE)
    await bridge.hear(alert("VllmPreemptionStorm", "reduce"))
    assert bridge.pace.level == 2
    await bridge.hear(QUEUE_ENDED)
    await bridge.steering.lift()
    assert bridge.pace.level == 4


async def test_each_pause_has_to_be_lifted(helm: Callable[..., Helm]) -> None:
    """Two engines down, one back: the alert's name is the same."""
    bridge = helm()
    await bridge.hear(alert("VllmDown", "pause", instance="a"))
    await bridge.hear(alert("VllmDown", "pause", instance="b"))
    await bridge.hear(alert("VllmDown", "pause", "resolved", instance="a"))
    await bridge.steering.lift()
    assert bridge.pace.pauses == {"VllmDown"}
    await bridge.hear(alert("VllmDown", "pause", "resolved", instance="b"))
    await bridge.steering.lift()
    assert bridge.pace.pauses == set()


async def test_stop_ends_with_its_own_exit_code(helm: Callable[..., Helm]) -> None:
    """A script must be able to distinguish a run that alerts stopped from one that finished."""
    bridge = helm()
    await bridge.hear(alert("DiskWritesFailing", "stop"))
    assert bridge.pace.ending == ("stopped by DiskWritesFailing", 6)
    assert bridge.actions() == [("stop", "DiskWritesFailing", "taken")]


async def test_capture_keeps_the_moment_and_goes_on(helm: Callable[..., Helm]) -> None:
    """It takes seconds to draw, and the caller must not wait for it."""
    bridge = helm()
    await bridge.hear(alert("VllmKvCacheNearlyFull", "capture"))
    await bridge.effects.finish()
    assert bridge.captured == ["VllmKvCacheNearlyFull"]
    assert [status for _, _, status in bridge.actions()] == ["taken", "done"]
    assert (bridge.pace.level, bridge.pace.pauses, bridge.pace.ending) == (8, set(), None)


async def test_a_capture_that_fails_is_written_down(helm: Callable[..., Helm]) -> None:
    """Prometheus may be what is at fault; the run goes on without the picture."""
    bridge = helm(capture_fails=True)
    await bridge.hear(alert("VllmKvCacheNearlyFull", "capture"))
    await bridge.effects.finish()
    assert [status for _, _, status in bridge.actions()] == ["taken", "failed"]
    assert bridge.pace.ending is None


async def test_every_action_is_marked_in_the_dashboards(helm: Callable[..., Helm]) -> None:
    """Whoever looks at the dip in the graph sees there what it was."""
    bridge = helm()
    await bridge.hear(DOWN)
    await bridge.hear(DOWN_ENDED)
    await bridge.steering.lift()
    await bridge.effects.finish()
    assert sorted(bridge.marks) == [("VllmDown", "lift"), ("VllmDown", "pause")]


OF_EACH_KIND = [
    ("VllmKvCacheNearlyFull", "capture"),
    ("VllmQueueGrowing", "reduce"),
    ("VllmDown", "pause"),
    ("DiskWritesFailing", "stop"),
]


@pytest.mark.parametrize(("name", "action"), OF_EACH_KIND)
async def test_a_dry_run_writes_down_and_does_nothing(helm: Callable[..., Helm], name: str, action: str) -> None:
    """Whoever tries new thresholds wants to know what they would have done."""
    bridge = helm(dry_run=True)
    await bridge.hear(alert(name, action))
    await asyncio.sleep(0)
    assert (bridge.pace.level, bridge.pace.pauses, bridge.pace.ending, bridge.captured) == (8, set(), None, [])
    assert bridge.actions() == [(action, name, "dry run")]


@pytest.mark.parametrize(
    "reported",
    [
        alert("SomebodyElsesAlert", "stop"),
        alert("VllmDown", "explode"),
        alert("VllmDown", "stop"),
        alert("SamplerLate", "stop"),
        alert("Hop2RagWatchdog", "pause"),
        alert("DiskWritesFailing", "pause"),
        alert("VllmDown", "Pause"),
        alert("VllmDown", "pause "),
        alert("VllmDown", ""),
        alert("VllmDown", "pause", run="another-run"),
        alert("VllmDown", "pause", "resolved"),
    ],
    ids=lambda sent: f"{sent['labels']['alertname']} {sent['labels'].get('action')} {sent['status']}",
)
async def test_row_12_what_is_not_for_us_does_nothing(helm: Callable[..., Helm], reported: dict[str, object]) -> None:
    """Alertmanager may serve others; whatever comes, nothing is done that no rule of ours asks for."""
    bridge = helm()
    assert await bridge.hear(reported)
    assert (bridge.pace.level, bridge.pace.pauses, bridge.pace.ending) == (8, set(), None)
    assert bridge.actions() == []
    assert not bridge.counted()


async def test_row_13_reconciling_finds_what_was_never_delivered(helm: Callable[..., Helm]) -> None:
    """An alert that begins or ends while the receiver is away is never sent to it again."""
    bridge = helm()
    await bridge.hear(DOWN)
    firing = {key: value for key, value in HUNG.items() if key != "status"}
    await bridge.steering.reconcile([from_api(firing)])
    assert bridge.pace.pauses == {"VllmDown", "VllmHung"}
    await bridge.steering.lift()
    assert bridge.pace.pauses == {"VllmHung"}


async def test_row_13_a_false_end_is_taken_back(helm: Callable[..., Helm]) -> None:
    """Prometheus was away, its alert ran out, and then it fires as if nothing had been, with its old beginning."""
    bridge = helm()
    await bridge.hear(DOWN)
    await bridge.hear(DOWN_ENDED)
    await bridge.steering.lift()
    assert bridge.pace.pauses == set()
    await bridge.steering.reconcile([from_api({key: value for key, value in DOWN.items() if key != "status"})])
    assert bridge.pace.pauses == {"VllmDown"}


async def test_a_pause_does_not_last_for_ever(helm: Callable[..., Helm]) -> None:
    """Somebody should look at it: the run ends, resumable, with the exit code that says so."""
    bridge = helm()
    await bridge.hear(DOWN)
    bridge.now = 1801.0
    await bridge.steering.lift()
    assert bridge.pace.ending == ("stopped by VllmDown", 6)


async def test_what_is_remembered_is_bounded(helm: Callable[..., Helm], monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller with the token can send what it likes for hours."""
    monkeypatch.setattr(steering_module, "MOST_ALERTS", 8)
    monkeypatch.setattr(steering_module, "MOST_KEYS", 16)
    bridge = helm()
    for number in range(40):
        await bridge.hear(alert("VllmKvCacheNearlyFull", "capture", instance=str(number)))
    assert list(bridge.steering._latest) == [f"VllmKvCacheNearlyFull-{number}" for number in range(32, 40)]
    assert len(bridge.steering._keys) == 16


async def test_row_11_a_shuffled_hour_ends_in_the_last_state(helm: Callable[..., Helm]) -> None:
    """Many alerts, each sent several times, in a random order: what fires at the end is what fired last."""
    chance, bridge = random.Random(11), helm()
    rules = sorted(
        (name, action)
        for action, name in steering_alerts()
        if action in {"pause", "reduce"} and name != "Hop2RagWatchdog"
    )
    messages, firing = [], {}
    for name, action in rules:
        last = chance.randrange(1, 5)
        for second in range(last):
            ends = second + 1 < last or chance.random() < 0.5
            messages += [alert(name, action, "firing", 100 * second)]
            messages += [alert(name, action, "resolved", 100 * second)] if ends else []
        if not ends:
            firing[name] = action
    reported = messages * 3
    chance.shuffle(reported)
    for one in reported:
        await bridge.hear(one)
    assert {found["alert"] for found in bridge.steering.firing().values()} == set(firing)
    await bridge.steering.lift()
    assert bridge.pace.pauses == {name for name, action in firing.items() if action == "pause"}
    assert bridge.pace.level == 8 >> list(firing.values()).count("reduce")


def test_the_rules_name_what_may_steer() -> None:
    """A closed set, from the rules that are evaluated: a label of the counter cannot grow with what is sent."""
    found = steering_alerts()
    assert {action for action, _ in found} == {"capture", "reduce", "pause", "stop"}
    assert {("pause", "VllmDown"), ("pause", "Hop2RagWatchdog"), ("stop", "DiskWritesFailing")} <= found
