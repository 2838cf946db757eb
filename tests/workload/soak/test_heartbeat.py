"""Row 13: monitoring is gone; the run is paused within three minutes, and asks afterwards what it missed."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.alerts import alert
from workload.errors import DependencyDownError
from workload.services.alert import Alert, from_api, readable
from workload.soak import heartbeat
from workload.soak.heartbeat import CHECK_SECONDS, Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.workload.conftest import Helm

BEAT = alert("Hop2RagWatchdog", "")
SAFE_WITHIN_SECONDS = 180.0


class Watch:
    """A heartbeat over servers that live as the test says, on the clock of the steering."""

    def __init__(self, bridge: Helm) -> None:
        self.bridge = bridge
        self.up = {"Prometheus": True, "Alertmanager": True}
        self.firing: list[Alert] = []
        self.asked = 0
        self.watch({name: self.server(name) for name in self.up}, self.alerts)

    def watch(self, servers: dict[str, Callable[[], bool]], alerts: Callable[[], Sequence[Alert]] = list) -> None:
        """Watch these servers."""
        bridge = self.bridge
        self.heartbeat = Heartbeat(
            steering=bridge.steering,
            pace=bridge.pace,
            servers=servers,
            alerts=alerts,
            prove=bridge.prove,
            monotonic=lambda: bridge.now,
        )

    def server(self, name: str) -> Callable[[], bool]:
        """Return what asks a server whether it is there."""
        return lambda: self.up[name]

    def alerts(self) -> Sequence[Alert]:
        """Answer as Alertmanager's API does."""
        self.asked += 1
        if not self.up["Alertmanager"]:
            raise DependencyDownError("Alertmanager does not answer.")
        return self.firing

    async def pass_time(self, seconds: float, *, beats: bool) -> float | None:
        """Let time pass, with a watchdog every 30 s or in silence; return when the run became safe, if it did."""
        began, safe = self.bridge.now, None
        while self.bridge.now < began + seconds:
            if beats and (self.bridge.now - began) % 30 == 0:
                await self.bridge.hear(BEAT)
            await self.heartbeat.check()
            if "heartbeat" in self.bridge.pace.pauses and safe is None:
                safe = self.bridge.now - began
            self.bridge.now += CHECK_SECONDS
        return safe


async def test_an_hour_of_beats_pauses_nothing(helm: Callable[..., Helm]) -> None:
    """The watchdog is the same message each time: if repetitions did not count, a run would stop after two minutes."""
    watch = Watch(helm())
    assert await watch.pass_time(3600, beats=True) is None
    assert watch.bridge.actions() == []


async def test_row_13_silence_of_the_watchdog_is_safe_in_time(helm: Callable[..., Helm]) -> None:
    """Rules that are not evaluated, a broken route: both servers answer, and no alert would arrive."""
    watch = Watch(helm())
    await watch.pass_time(300, beats=True)
    safe = await watch.pass_time(200, beats=False)
    assert safe is not None
    assert 60 < safe <= SAFE_WITHIN_SECONDS
    assert watch.bridge.counted() == {("pause", "Hop2RagWatchdog"): 1}


async def test_row_13_a_dead_server_is_noticed_by_itself(helm: Callable[..., Helm]) -> None:
    """Each of the two, also when the other goes on sending beats that it still believes."""
    for name in ("Prometheus", "Alertmanager"):
        watch = Watch(helm())
        await watch.pass_time(60, beats=True)
        watch.up[name] = False
        safe = await watch.pass_time(200, beats=True)
        assert safe is not None
        assert safe <= SAFE_WITHIN_SECONDS
        watch.bridge.journal.close()
        watch.bridge.path.unlink()


async def test_a_short_absence_is_no_loss(helm: Callable[..., Helm]) -> None:
    """A server that is restarted in half a minute must not pause the run."""
    watch = Watch(helm())
    watch.up["Prometheus"] = False
    assert await watch.pass_time(40, beats=True) is None
    watch.up["Prometheus"] = True
    assert await watch.pass_time(300, beats=True) is None


async def test_row_13_on_return_it_asks_what_it_missed_and_wants_a_proof(helm: Callable[..., Helm]) -> None:
    """The alert that began during the silence is found; and the engine has to answer before anything is sent."""
    watch = Watch(helm())
    watch.up["Prometheus"] = False
    await watch.pass_time(100, beats=False)
    assert watch.bridge.pace.pauses == {"heartbeat"}
    watch.up["Prometheus"] = True
    watch.firing = [from_api({key: value for key, value in alert("GpuLost", "pause").items() if key != "status"})]
    watch.bridge.answers.clear()
    await watch.bridge.hear(BEAT)
    checking = asyncio.create_task(watch.heartbeat.check())
    async with asyncio.timeout(60):
        while "GpuLost" not in watch.bridge.pace.pauses:  # noqa: ASYNC110 - the check asks from a thread
            await asyncio.sleep(0.01)
    assert watch.bridge.pace.pauses == {"heartbeat", "GpuLost"}
    watch.bridge.answers.set()
    await checking
    assert watch.bridge.pace.pauses == {"GpuLost"}
    await watch.bridge.journal.acknowledge()
    assert [action for action, _, _ in watch.bridge.actions()] == ["pause", "pause", "lift"]


async def test_a_dry_run_is_not_paused(helm: Callable[..., Helm]) -> None:
    """It writes down that it would have been."""
    watch = Watch(helm(dry_run=True))
    assert await watch.pass_time(200, beats=False) is None
    assert watch.bridge.actions() == [("pause", "Hop2RagWatchdog", "dry run")]


async def test_a_lost_heartbeat_does_not_hold_for_ever(helm: Callable[..., Helm]) -> None:
    """Hours without Prometheus: a run that waits to its end records nothing and ended with 0."""
    watch = Watch(helm())
    watch.up["Prometheus"] = False
    await watch.pass_time(7_200, beats=False)
    await watch.bridge.steering.lift()
    assert watch.bridge.pace.ending == ("stopped by Hop2RagWatchdog", 6)


async def test_an_absence_within_the_patience_ends_nothing(helm: Callable[..., Helm]) -> None:
    """Each absence has the whole patience: a server that comes back has been mended."""
    watch = Watch(helm())
    for _ in range(3):
        watch.up["Prometheus"] = False
        await watch.pass_time(1500, beats=True)
        await watch.bridge.steering.lift()
        watch.up["Prometheus"] = True
        await watch.pass_time(60, beats=True)
    assert (watch.bridge.pace.ending, watch.bridge.pace.pauses) == (None, set())


@pytest.mark.parametrize(
    "odd",
    [
        {"labels": {"alertname": "VllmDown", "note": "x" * 5000}},
        {"labels": {"alertname": 5}},
        {"labels": None},
        {"fingerprint": ["x"]},
        {"startsAt": "yesterday"},
        {"startsAt": "9999-99-99T99:99:99Z"},
        {"startsAt": None},
    ],
    ids=repr,
)
def test_an_alert_that_cannot_be_read_hides_no_other(odd: dict[str, Any]) -> None:
    """One label of 5,000 characters, posted by anybody, ended a soak with a traceback half a minute later."""
    good = alert("GpuLost", "pause")
    alerts, unreadable = readable([{**good, **odd}, good, "text", None, 7, ["x"]])
    assert [found.name for found in alerts] == ["GpuLost"]
    assert unreadable == 5


async def test_an_answer_that_cannot_be_read_ends_nothing(helm: Callable[..., Helm]) -> None:
    """It is asked for again at the next check."""
    watch = Watch(helm())
    watch.heartbeat._alerts = lambda: [from_api({"labels": 7})]
    await watch.heartbeat.check()
    watch.heartbeat._alerts = lambda: [from_api(alert("GpuLost", "pause"))]
    await watch.heartbeat.check()
    assert watch.bridge.pace.pauses == {"GpuLost"}


async def test_doubt_is_settled_at_the_next_check(helm: Callable[..., Helm]) -> None:
    """A message out of order may be late or of a clock set back: who fires now is asked within seconds, not in 30."""
    watch = Watch(helm())
    await watch.heartbeat.check()
    asked = watch.asked
    await watch.heartbeat.check()
    assert watch.asked == asked
    await watch.bridge.hear(alert("VllmDown", "pause", "resolved", second=3600))
    await watch.bridge.hear(alert("VllmDown", "pause", second=60))
    watch.firing = [from_api(alert("VllmDown", "pause", second=60))]
    await watch.heartbeat.check()
    assert watch.bridge.pace.pauses == {"VllmDown"}


async def test_row_13_a_server_that_never_ends_its_answer_is_down(
    helm: Callable[..., Helm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header that drips is within every time-out of a read: the one who watches must not wait with it for ever."""
    monkeypatch.setattr(heartbeat, "ANSWER_SECONDS", 0.001)
    watch, ends = Watch(helm()), threading.Event()
    watch.watch({"Prometheus": ends.wait, "Alertmanager": lambda: True})
    try:
        assert await watch.pass_time(200, beats=True) is not None
    finally:
        ends.set()
    assert watch.bridge.counted() == {("pause", "Hop2RagWatchdog"): 1}


async def test_alerts_that_never_come_do_not_keep_it_from_watching(
    helm: Callable[..., Helm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would else notice no silence while it waits for what fires."""
    monkeypatch.setattr(heartbeat, "ANSWER_SECONDS", 0.001)
    watch, ends = Watch(helm()), threading.Event()

    def never() -> Sequence[Alert]:
        ends.wait()
        return []

    watch.watch({"Prometheus": lambda: True}, never)
    try:
        assert await watch.pass_time(200, beats=False) is not None
    finally:
        ends.set()
