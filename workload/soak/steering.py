"""Turns alerts into actions: each beginning acts once, and what it did is undone only after a proof of recovery."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.errors import Hop2RagError, StoppedByAlertError, StorageError
from workload.services.alert import WATCHDOG
from workload.services.own_thread import in_own_thread
from workload.soak.alert_effects import Asides
from workload.soak.pace import DISK, ENGINE, HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from exporter.agent.soak import SoakMetrics
    from workload.record.journal import Journal
    from workload.services.alert import Alert, Notification
    from workload.services.alert_confirmation import Confirm
    from workload.soak.pace import Pace

MOST_KEYS, MOST_ALERTS = 4096, 1024
LIFT_SECONDS = 1.0
UNCONFIRMED = frozenset({"capture"})
"""What needs no word of Prometheus: it changes nothing of the run, and its number is bounded."""

log = logging.getLogger(__name__)


@dataclass
class _InForce:
    """A pause or a reduction that lasts, and whether its alert has ended."""

    alert: Alert
    has_ended: bool = False


class Steering:
    """What the alerts have told and what was done about it. All of it runs in the event loop of the soak.

    A message is no more than a reason to look: what an alert may ask for stands in the rules, and that it fires, or has
    ended, is asked of Prometheus. Of two messages on one alert the later state counts, by its beginning and end; what
    the alerts API says fires now counts more than any message.

    Attributes:
        beaten_at: when the Hop2RagWatchdog was heard last, by the monotonic clock.
        is_in_doubt: whether a message came out of order since the last look at what fires.

    Args:
        pace: what the actions work on.
        journal: every action is written to it before it is answered for.
        metrics: counts actions.
        rules: (action, alert) of each rule that may steer; whatever else asks for something is ignored.
        run: the run's name; an alert that carries another run's is not about us.
        prove: returns once the engine has answered a canary.
        capture: blocks while it keeps the panels of the moment (seconds since the epoch) of an alert; says where.
        patience_seconds: how long one hold, an alert's or another, may last before the run is ended. The engine's has a
            patience of its own.
        confirm: blocks and returns those of some alerts whose state Prometheus tells too; raises a `Hop2RagError` where
            it cannot be asked.
        mark: blocks while it marks an action in the dashboards: when, alert, action.
        dry_run: whether actions are only written down.
        monotonic, wall: clocks in seconds.
    """

    def __init__(
        self,
        pace: Pace,
        journal: Journal,
        metrics: SoakMetrics,
        rules: Iterable[tuple[str, str]],
        run: str,
        prove: Callable[[], Awaitable[None]],
        capture: Callable[[Alert, float], str],
        patience_seconds: float,
        *,
        confirm: Confirm = list,
        mark: Callable[[float, str, str], None] = lambda *_: None,
        dry_run: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._pace, self._journal, self._metrics = pace, journal, metrics
        self._rules, self._run = frozenset(rules), run
        self._prove, self._confirm, self._asides = prove, confirm, Asides(capture, mark)
        self._patience_seconds, self._dry_run = patience_seconds, dry_run
        self._monotonic, self._wall = monotonic, wall
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._told: OrderedDict[str, Alert] = OrderedDict()
        self._captured: OrderedDict[str, None] = OrderedDict()
        self._in_force: dict[str, _InForce] = {}
        self.beaten_at = monotonic()
        self.is_in_doubt = False

    async def receive(self, notification: Notification) -> bool:
        """Take a message; return False if it is a repetition. When this returns, what it caused is on disk.

        Raises:
            DependencyDownError: Prometheus cannot be asked; nothing is done, and the message may be sent again.
            StorageError: the journal cannot be written.
        """
        if any(alert.name == WATCHDOG and alert.is_firing for alert in notification.alerts):
            self.beaten_at = self._monotonic()  # the same message each time: a repetition is what it is for
        is_new = notification.key not in self._keys
        if is_new:
            _remember(self._keys, notification.key, None, MOST_KEYS)
            asking = [alert for alert in notification.alerts if alert.action and alert.name != WATCHDOG]
            ours = [alert for alert in asking if self._may_steer(alert)]
            if unknown := sum((alert.action, alert.name) not in self._rules for alert in asking):
                self.ignored("unknown", unknown)
            try:
                true = await self._true_of(ours)
            except Hop2RagError:
                self._keys.pop(notification.key, None)
                raise
            if len(true) < len(ours):
                self._keys.pop(notification.key, None)  # it may come true yet
                self.ignored("unconfirmed", len(ours) - len(true))
            for alert in true:
                told = self._told.get(alert.fingerprint)
                if told is None or alert.order > told.order:
                    self._hear(alert)
                elif alert.is_firing != told.is_firing:
                    self.is_in_doubt = True  # it is late, or a clock was set back: whoever looks next knows
        await self._journal.acknowledge()
        return is_new

    async def reconcile(self, firing: Iterable[Alert]) -> None:
        """Take what fires now for the truth, whenever it began: messages may be lost or late, and clocks set back."""
        self.is_in_doubt = False
        now = {alert.fingerprint: alert for alert in firing if self._may_steer(alert)}
        for alert in now.values():
            self._hear(alert)
        told = {fingerprint: held.alert for fingerprint, held in self._in_force.items()} | self._told
        for fingerprint, alert in told.items():
            if fingerprint not in now and alert.is_firing:
                self._hear(alert.model_copy(update={"status": "resolved"}))
        await self._journal.acknowledge()

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the alerts with an action that fire now, by fingerprint."""
        return {
            fingerprint: {"alert": told.name, "action": told.action, "since": told.starts_at.isoformat()}
            for fingerprint, told in self._told.items()
            if told.is_firing
        }

    def note(self, action: str, detail: str, alert: Alert | None = None, status: str = "taken", name: str = "") -> None:
        """Write an action down; `name` is the alert's where there is no message of it."""
        row: dict[str, Any] = {"at": self._wall(), "action": action, "alert": alert.name if alert else name}
        if alert:
            row |= {"fingerprint": alert.fingerprint, "starts_at": alert.starts_at.isoformat()}
        self._journal.insert("action", {**row, "status": status, "detail": detail})
        if row["alert"]:
            self._asides.mark(row["at"], row["alert"], action)

    def act(self, action: str, name: str, detail: str, alert: Alert | None = None) -> bool:
        """Count and write down an action; return whether it is to be done, which in a dry run it is not."""
        self._metrics.acted(action, name)
        self.note(action, detail, alert, "dry run" if self._dry_run else "taken", name)
        return not self._dry_run

    def ignored(self, reason: str, number: int = 1) -> None:
        """Count and log alerts that are ignored, by a reason of `exporter.agent.soak.IGNORED`, not by name."""
        self._metrics.ignored.labels(reason).inc(number)
        log.warning("%d alert(s) that asked for something were ignored: %s", number, reason)

    async def finish(self) -> None:
        """Wait until the last captures and marks are done, some seconds at the most."""
        await self._asides.finish()

    async def keep_lifting(self) -> None:
        """Undo what has ended and is proved, for as long as this runs; end the run when a hold takes too long."""
        while True:
            await self.lift()
            await asyncio.sleep(LIFT_SECONDS)

    async def lift(self) -> None:
        """Undo each action whose alert has ended, once a canary asked after that end was answered."""
        if self.lose_patience():
            return
        ended = {fingerprint: held for fingerprint, held in self._in_force.items() if held.has_ended}
        if not ended and not any(held.alert.action == "pause" for held in self._in_force.values()):
            return
        await self._prove()  # while it is paused too: a hung engine is found and started again
        for fingerprint, held in ended.items():
            if held.has_ended and self._in_force.get(fingerprint) is held:
                del self._in_force[fingerprint]
                self._undo(held.alert)

    def lose_patience(self) -> bool:
        """End the run if something has held it for too long; return whether it ends."""
        for name, seconds in self._pace.held_seconds.items():
            if name != ENGINE and seconds > self._patience_seconds and not self._pace.ending:
                whose = {HEARTBEAT: WATCHDOG, DISK: "a full disk"}.get(name, name)
                self.note("stop", f"paused for over {self._patience_seconds:.0f} s", name="" if name == DISK else whose)
                code = StorageError.exit_code if name == DISK else StoppedByAlertError.exit_code
                self._pace.end(f"stopped by {whose}", code)
        return self._pace.ending is not None

    def _may_steer(self, alert: Alert) -> bool:
        is_of_a_rule = (alert.action, alert.name) in self._rules and alert.name != WATCHDOG
        return is_of_a_rule and alert.labels.get("run", self._run) == self._run

    async def _true_of(self, alerts: Sequence[Alert]) -> list[Alert]:
        asked = [alert for alert in alerts if alert.action not in UNCONFIRMED]
        true = {id(alert) for alert in await in_own_thread(self._confirm, asked)} if asked else set()
        return [alert for alert in alerts if alert.action in UNCONFIRMED or id(alert) in true]

    def _hear(self, alert: Alert) -> None:
        told, held = self._told.get(alert.fingerprint), self._in_force.get(alert.fingerprint)
        lasts = alert.action in {"pause", "reduce"}
        if held:
            held.has_ended = not alert.is_firing  # one that came back before it was lifted is in force still
        if alert.is_firing and lasts and not held and len(self._in_force) >= MOST_ALERTS:
            return  # found by a later look, when there is room
        _remember(self._told, alert.fingerprint, alert, MOST_ALERTS)
        if not alert.is_firing:
            return
        if alert.action == "capture":
            beginning = f"{alert.fingerprint} {alert.starts_at.isoformat()}"
            is_new = beginning not in self._captured
            _remember(self._captured, beginning, None, MOST_KEYS)
        else:
            is_new = not held and not (told and told.is_firing)
        if is_new:
            self._begin(alert)

    def _begin(self, alert: Alert) -> None:
        effect = {
            "capture": "panels are kept",
            "reduce": f"from {self._pace.level} to {max(1, self._pace.level // 2)} at a time",
            "pause": "nothing is sent until a canary is answered",
            "stop": "the run ends",
        }[alert.action]
        if not self.act(alert.action, alert.name, effect, alert):
            return
        if alert.action == "capture":
            self._asides.capture(
                alert, self._wall(), lambda status, detail: self.note("capture", detail, alert, status)
            )
        elif alert.action == "stop":
            self._pace.end(f"stopped by {alert.name}", StoppedByAlertError.exit_code)
        else:
            self._in_force[alert.fingerprint] = _InForce(alert)
            if alert.action == "pause":
                self._pace.hold(alert.name)
            else:
                self._pace.halve()

    def _undo(self, alert: Alert) -> None:
        if alert.action == "reduce":
            self.note("lift", f"{self._pace.restore()} at a time again: the alert ended, a canary was answered", alert)
        elif not any(
            (other.alert.name, other.alert.action) == (alert.name, "pause") for other in self._in_force.values()
        ):
            self._pace.lift(alert.name)
            self.note("lift", "sending again: the alert ended, a canary was answered", alert)


def _remember(store: OrderedDict[str, Any], key: str, value: Any, most: int) -> None:
    """Put a value last; forget the first beyond `most`."""
    store.pop(key, None)
    store[key] = value
    while len(store) > most:
        store.popitem(last=False)
