"""Turns alerts into actions: each beginning acts once, and what it did is undone only after a proof of recovery."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.errors import Hop2RagError, StoppedByAlertError
from workload.soak.alert import ACTIONS, WATCHDOG

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from exporter.soak import SoakMetrics
    from workload.journal import Journal
    from workload.soak.alert import Alert, Message
    from workload.soak.pace import Pace

MOST_KEYS, MOST_ALERTS = 4096, 1024
LIFT_SECONDS, FINISH_SECONDS = 1.0, 30.0
log = logging.getLogger(__name__)


@dataclass
class _InForce:
    """A pause or a reduction that lasts, since when (monotonic seconds), and whether its alert has ended."""

    alert: Alert
    since: float
    has_ended: bool = False


class Steering:
    """What the alerts have told and what was done about it. All of it runs in the event loop of the soak.

    Args:
        pace: what the actions work on.
        journal: every action is written to it before it is answered for.
        metrics: counts actions.
        known: the names of the alerts that may steer; others are logged and ignored.
        run: the run's name; an alert that carries another run's is not about us.
        prove: returns once the engine has answered a canary.
        capture: blocks while it keeps the panels of the moment (seconds since the epoch) of an alert; says where.
        mark: blocks while it marks an action in the dashboards: when, alert, action. Both run in threads.
        patience_seconds: how long one pause may last before the run is ended.
        dry_run: whether actions are only written down.
        monotonic, wall: clocks in seconds.
    """

    def __init__(
        self,
        pace: Pace,
        journal: Journal,
        metrics: SoakMetrics,
        known: Iterable[str],
        run: str,
        prove: Callable[[], Awaitable[None]],
        capture: Callable[[Alert, float], str],
        patience_seconds: float,
        *,
        mark: Callable[[float, str, str], None] = lambda *_: None,
        dry_run: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._pace, self._journal, self._metrics = pace, journal, metrics
        self._known, self._run = frozenset(known), run
        self._prove, self._capture, self._mark = prove, capture, mark
        self._patience_seconds, self._dry_run = patience_seconds, dry_run
        self._monotonic, self._wall = monotonic, wall
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._told: OrderedDict[str, Alert] = OrderedDict()
        self._in_force: dict[str, _InForce] = {}
        self._extras: set[asyncio.Task[None]] = set()
        self.beaten_at = monotonic()

    async def receive(self, message: Message) -> bool:
        """Take a message; return False if it is a repetition. When this returns, what it caused is on disk.

        Raises:
            StorageError: the journal cannot be written.
        """
        if any(alert.name == WATCHDOG and alert.status == "firing" for alert in message.alerts):
            self.beaten_at = self._monotonic()  # the same message each time: a repetition is what it is for
        is_new = message.key not in self._keys
        if is_new:
            _remember(self._keys, message.key, None, MOST_KEYS)
            for alert in message.alerts:
                self._hear(alert)
        await self._journal.acknowledge()
        return is_new

    async def reconcile(self, firing: Iterable[Alert]) -> None:
        """Take what Alertmanager says fires now for the truth: messages may have been lost or late."""
        now = {alert.fingerprint: alert for alert in firing}
        for alert in now.values():
            told = self._told.get(alert.fingerprint)
            if told and told.status == "resolved" and told.starts_at == alert.starts_at:
                del self._told[alert.fingerprint]  # the end was false: its series had only gone stale
            self._hear(alert)
        for fingerprint, told in list(self._told.items()):
            if told.status == "firing" and fingerprint not in now:
                self._hear(told.model_copy(update={"status": "resolved"}))
        await self._journal.acknowledge()

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the alerts with an action that fire now, by fingerprint."""
        return {
            fingerprint: {"alert": told.name, "action": told.action, "since": told.starts_at.isoformat()}
            for fingerprint, told in self._told.items()
            if told.status == "firing"
        }

    def note(self, action: str, detail: str, alert: Alert | None = None, status: str = "taken", name: str = "") -> None:
        """Write an action down; `name` is the alert's where there is no message of it."""
        row: dict[str, Any] = {"at": self._wall(), "action": action, "alert": alert.name if alert else name}
        if alert:
            row |= {"fingerprint": alert.fingerprint, "starts_at": alert.starts_at.isoformat()}
        self._journal.insert("action", {**row, "status": status, "detail": detail})
        if row["alert"]:
            self._beside(asyncio.to_thread(self._mark, row["at"], row["alert"], action))

    def act(self, action: str, name: str, detail: str, alert: Alert | None = None) -> bool:
        """Count and write down an action; return whether it is to be done, which in a dry run it is not."""
        self._metrics.acted(action, name)
        self.note(action, detail, alert, "dry run" if self._dry_run else "taken", name)
        return not self._dry_run

    async def finish(self) -> None:
        """Wait until the last captures and marks are done, some seconds at the most."""
        if self._extras:
            await asyncio.wait(self._extras, timeout=FINISH_SECONDS)

    async def keep_lifting(self) -> None:
        """Undo what has ended and is proved, for as long as this runs; end the run when a pause takes too long."""
        while True:
            await self.lift()
            await asyncio.sleep(LIFT_SECONDS)

    async def lift(self) -> None:
        """Undo each action whose alert has ended, once a canary asked after that end was answered."""
        for fingerprint, held in list(self._in_force.items()):
            is_pause = held.alert.action == "pause"
            if is_pause and self._monotonic() - held.since > self._patience_seconds:
                self.note("stop", f"paused for over {self._patience_seconds:.0f} s", held.alert)
                self._pace.end(f"stopped by {held.alert.name}", StoppedByAlertError.exit_code)
                return
            had_ended = held.has_ended
            if is_pause or had_ended:
                await self._prove()  # while it is paused too: a hung engine is found and started again
            if had_ended and held.has_ended and self._in_force.get(fingerprint) is held:
                del self._in_force[fingerprint]
                self._undo(held.alert)

    def _hear(self, alert: Alert) -> None:
        if alert.name not in self._known:
            log.warning("an alert that no rule of ours sends was ignored")
            return
        if alert.action not in ACTIONS or alert.labels.get("run", self._run) != self._run:
            return
        told = self._told.get(alert.fingerprint)
        if told and alert.age <= told.age:
            return
        _remember(self._told, alert.fingerprint, alert, MOST_ALERTS)
        held = self._in_force.get(alert.fingerprint)
        if alert.status == "resolved":
            if held:
                held.has_ended = True
        elif held:
            held.has_ended = False  # it came back before it was lifted: what it did is still in force
        else:
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
            self._beside(self._keep(alert))
        elif alert.action == "stop":
            self._pace.end(f"stopped by {alert.name}", StoppedByAlertError.exit_code)
        else:
            self._in_force[alert.fingerprint] = _InForce(alert, self._monotonic())
            if alert.action == "pause":
                self._pace.hold(alert.name)
            else:
                self._pace.halve()

    async def _keep(self, alert: Alert) -> None:
        try:
            kept = await asyncio.to_thread(self._capture, alert, self._wall())
        except (Hop2RagError, OSError) as error:
            self.note("capture", f"not kept: {error}", alert, "failed")
        else:
            self.note("capture", kept, alert, "done")

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something take its time while the run goes on."""
        task = asyncio.ensure_future(work)
        self._extras.add(task)
        task.add_done_callback(self._extras.discard)

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
