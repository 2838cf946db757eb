"""Turns alerts into actions: each firing acts once, until the alert ends and the engine is proved."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.errors import Hop2RagError, StoppedByAlertError, StorageError
from workload.services.alert import WATCHDOG, Alert, Confirm, Notification
from workload.services.own_thread import in_own_thread
from workload.soak.pace import DISK, ENGINE, HEARTBEAT, Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from workload.soak.actions import ActionLog

MOST_KEYS, MOST_ALERTS = 4096, 1024
LIFT_SECONDS = 1.0
UNCONFIRMED = frozenset({"capture"})
"""Actions that need no confirmation by Prometheus: they change nothing in the run, and their number is bounded."""


@dataclass
class _InForce:
    """A pause or a reduction that lasts, and whether its alert has ended."""

    alert: Alert
    has_ended: bool = False


class Steering:
    """Acts on alerts, in the event loop of the soak.

    A notification is only a reason to look: the rules say what an alert may ask for, and Prometheus says whether it
    fires or has ended. Of two notifications of one alert the later state counts, by its beginning and end; what
    the alerts API lists as firing now outranks every notification.

    Attributes:
        beaten_at: when the Hop2RagWatchdog last fired, by the monotonic clock.
        is_in_doubt: whether a notification came out of order since the last look at the alerts API.

    Args:
        actions: records every action before its notification is acknowledged.
        rules: (action, alert) of each rule that may steer; other alerts that ask for an action are ignored.
        run: the run's name; an alert labelled with another run is ignored.
        prove: returns once the engine has answered a canary.
        patience_seconds: how long one pause may last before the run ends. The engine's pause has its own limit.
        confirm: blocks and returns the alerts whose state Prometheus confirms; raises a `Hop2RagError` if Prometheus
            does not answer.
    """

    def __init__(
        self,
        *,
        pace: Pace,
        actions: ActionLog,
        rules: Iterable[tuple[str, str]],
        run: str,
        prove: Callable[[], Awaitable[None]],
        patience_seconds: float,
        confirm: Confirm = list,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.actions = actions
        self._pace = pace
        self._rules, self._run = frozenset(rules), run
        self._prove, self._confirm = prove, confirm
        self._patience_seconds, self._monotonic = patience_seconds, monotonic
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._latest: OrderedDict[str, Alert] = OrderedDict()
        self._captured: OrderedDict[str, None] = OrderedDict()
        self._in_force: dict[str, _InForce] = {}
        self.beaten_at = monotonic()
        self.is_in_doubt = False

    async def receive(self, notification: Notification) -> bool:
        """Handle a notification; return False if it repeats an earlier one. Its actions are then on disk.

        Raises:
            DependencyDownError: Prometheus does not answer; nothing is done, and the notification may be sent again.
            StorageError: the journal cannot be written.
        """
        if any(alert.name == WATCHDOG and alert.is_firing for alert in notification.alerts):
            self.beat()  # its notification is the same each time
        is_new = notification.key not in self._keys
        if is_new:
            _remember(self._keys, notification.key, None, MOST_KEYS)
            asking = [alert for alert in notification.alerts if alert.action and alert.name != WATCHDOG]
            ours = [alert for alert in asking if self._may_steer(alert)]
            if unknown := sum((alert.action, alert.name) not in self._rules for alert in asking):
                self.actions.ignored("unknown", unknown)
            try:
                true = await self._true_of(ours)
            except Hop2RagError:
                self._keys.pop(notification.key, None)
                raise
            if len(true) < len(ours):
                self._keys.pop(notification.key, None)  # it may be confirmed later
                self.actions.ignored("unconfirmed", len(ours) - len(true))
            for alert in true:
                latest = self._latest.get(alert.fingerprint)
                if latest is None or alert.order > latest.order:
                    self._hear(alert)
                elif alert.is_firing != latest.is_firing:
                    self.is_in_doubt = True  # it is late, or a clock was set back: the next look at the API decides
        await self.actions.journal.acknowledge()
        return is_new

    def beat(self) -> None:
        """Note that the Hop2RagWatchdog fires now."""
        self.beaten_at = self._monotonic()

    async def reconcile(self, firing: Iterable[Alert]) -> None:
        """Accept the alerts that fire now, whenever they began: notifications may be late, and clocks set back."""
        self.is_in_doubt = False
        now = {alert.fingerprint: alert for alert in firing if self._may_steer(alert)}
        for alert in now.values():
            self._hear(alert)
        known = {fingerprint: effect.alert for fingerprint, effect in self._in_force.items()} | self._latest
        for fingerprint, alert in known.items():
            if fingerprint not in now and alert.is_firing:
                self._hear(alert.model_copy(update={"status": "resolved"}))
        await self.actions.journal.acknowledge()

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the firing alerts that have an action, by fingerprint."""
        return {
            fingerprint: {"alert": alert.name, "action": alert.action, "since": alert.starts_at.isoformat()}
            for fingerprint, alert in self._latest.items()
            if alert.is_firing
        }

    async def keep_lifting(self) -> None:
        """Undo actions whose alert has ended, for as long as this runs; end the run if a pause lasts too long."""
        while True:
            await self.lift()
            await asyncio.sleep(LIFT_SECONDS)

    async def lift(self) -> None:
        """Undo each action whose alert has ended, once the engine answers a canary sent after that end."""
        if self.lose_patience():
            return
        ended = {fingerprint: effect for fingerprint, effect in self._in_force.items() if effect.has_ended}
        if not ended and not any(effect.alert.action == "pause" for effect in self._in_force.values()):
            return
        await self._prove()  # during a pause too, so that a hung engine is restarted
        for fingerprint, effect in ended.items():
            if effect.has_ended and self._in_force.get(fingerprint) is effect:
                del self._in_force[fingerprint]
                self._undo(effect.alert)

    def lose_patience(self) -> bool:
        """End the run if a pause has lasted too long; return whether it ends."""
        for name, seconds in self._pace.paused_seconds.items():
            if name != ENGINE and seconds > self._patience_seconds and not self._pace.ending:
                cause = {HEARTBEAT: WATCHDOG, DISK: "a full disk"}.get(name, name)
                detail = f"paused for over {self._patience_seconds:.0f} s"
                self.actions.note("stop", detail, name="" if name == DISK else cause)
                code = StorageError.exit_code if name == DISK else StoppedByAlertError.exit_code
                self._pace.end(f"stopped by {cause}", code)
        return self._pace.ending is not None

    def _may_steer(self, alert: Alert) -> bool:
        is_of_a_rule = (alert.action, alert.name) in self._rules and alert.name != WATCHDOG
        return is_of_a_rule and alert.labels.get("run", self._run) == self._run

    async def _true_of(self, alerts: Sequence[Alert]) -> list[Alert]:
        asked = [alert for alert in alerts if alert.action not in UNCONFIRMED]
        true = {id(alert) for alert in await in_own_thread(self._confirm, asked)} if asked else set()
        return [alert for alert in alerts if alert.action in UNCONFIRMED or id(alert) in true]

    def _hear(self, alert: Alert) -> None:
        latest, effect = self._latest.get(alert.fingerprint), self._in_force.get(alert.fingerprint)
        lasts = alert.action in {"pause", "reduce"}
        if effect:
            effect.has_ended = not alert.is_firing  # an alert that fires again before it was undone stays in force
        if alert.is_firing and lasts and not effect and len(self._in_force) >= MOST_ALERTS:
            return  # a later look at the API finds it, when there is room
        _remember(self._latest, alert.fingerprint, alert, MOST_ALERTS)
        if not alert.is_firing:
            return
        if alert.action == "capture":
            beginning = f"{alert.fingerprint} {alert.starts_at.isoformat()}"
            is_new = beginning not in self._captured
            _remember(self._captured, beginning, None, MOST_KEYS)
        else:
            is_new = not effect and not (latest and latest.is_firing)
        if is_new:
            self._begin(alert)

    def _begin(self, alert: Alert) -> None:
        detail = {
            "capture": "panels are kept",
            "reduce": f"from {self._pace.level} to {max(1, self._pace.level // 2)} at a time",
            "pause": "nothing is sent until a canary is answered",
            "stop": "the run ends",
        }[alert.action]
        if not self.actions.act(alert.action, alert.name, detail, alert):
            return
        if alert.action == "capture":
            self.actions.effects.capture(
                alert, self.actions.wall(), lambda status, said: self.actions.note("capture", said, alert, status)
            )
        elif alert.action == "stop":
            self._pace.end(f"stopped by {alert.name}", StoppedByAlertError.exit_code)
        else:
            self._in_force[alert.fingerprint] = _InForce(alert)
            if alert.action == "pause":
                self._pace.pause(alert.name)
            else:
                self._pace.halve()

    def _undo(self, alert: Alert) -> None:
        if alert.action == "reduce":
            detail = f"{self._pace.restore()} at a time again: the alert ended, a canary was answered"
            self.actions.note("lift", detail, alert)
        elif not any(
            (other.alert.name, other.alert.action) == (alert.name, "pause") for other in self._in_force.values()
        ):
            self._pace.resume(alert.name)
            self.actions.note("lift", "sending again: the alert ended, a canary was answered", alert)


def _remember(store: OrderedDict[str, Any], key: str, value: Any, most: int) -> None:
    """Put a value last; forget the first beyond `most`."""
    store.pop(key, None)
    store[key] = value
    while len(store) > most:
        store.popitem(last=False)
