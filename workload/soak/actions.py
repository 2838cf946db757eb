"""The actions of a soak: each is journaled, counted and marked in the dashboards, which the run does not wait for."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.services.own_thread import OneByOne

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from exporter.agent.soak import SoakMetrics
    from workload.record.journal import Journal
    from workload.services.alert import Alert

CAPTURE_SECONDS, MARK_SECONDS, FINISH_SECONDS = 180.0, 30.0, 30.0
MOST_CAPTURES_WAITING, MOST_MARKS_WAITING = 8, 64
log = logging.getLogger(__name__)
_Tasks = set[asyncio.Task[None]]


@dataclass(frozen=True, kw_only=True)
class ActionLog:
    """Records the actions on a run and their causes.

    Args:
        journal: gets a row per action.
        metrics: counts actions and ignored alerts.
        effects: marks the actions of alerts in the dashboards.
        dry_run: whether the actions of alerts are only recorded.
    """

    journal: Journal
    metrics: SoakMetrics
    effects: AlertEffects
    dry_run: bool = False
    wall: Callable[[], float] = time.time

    def note(self, action: str, detail: str, alert: Alert | None = None, status: str = "taken", name: str = "") -> None:
        """Journal an action; `name` is the alert's if there is no notification of it."""
        row: dict[str, Any] = {"at": self.wall(), "action": action, "alert": alert.name if alert else name}
        if alert:
            row |= {"fingerprint": alert.fingerprint, "starts_at": alert.starts_at.isoformat()}
        self.journal.insert("action", {**row, "status": status, "detail": detail})
        if row["alert"]:
            self.effects.mark(row["at"], row["alert"], action)

    def act(self, action: str, name: str, detail: str, alert: Alert | None = None) -> bool:
        """Count and journal an alert's action; return whether to take it, which a dry run does not."""
        self.metrics.acted(action, name)
        self.note(action, detail, alert, "dry run" if self.dry_run else "taken", name)
        return not self.dry_run

    def restarted(self, action: str, detail: str) -> None:
        """Count and journal a restart of the engine."""
        self.metrics.restarts.inc()
        self.note(action, detail)

    def ignored(self, reason: str, number: int = 1) -> None:
        """Count and log ignored alerts by a reason of `exporter.agent.soak.IGNORED`, not by name."""
        self.metrics.ignored.labels(reason).inc(number)
        log.warning("%d alert(s) that asked for an action were ignored: %s", number, reason)


class AlertEffects:
    """Captures and marks, one at a time per kind in a thread of its own, bounded in number and time.

    Args:
        capture: blocks while it captures the panels of an alert at an instant (seconds since the epoch); returns where.
        mark: blocks while it marks an action in the dashboards: instant, alert, action.
    """

    def __init__(self, capture: Callable[[Alert, float], str], mark: Callable[[float, str, str], None]) -> None:
        self._capture, self._mark = capture, mark
        self._captures, self._capturing = OneByOne(CAPTURE_SECONDS), _Tasks()
        self._marks, self._marking = OneByOne(MARK_SECONDS), _Tasks()

    def capture(self, alert: Alert, at: float, report: Callable[[str, str], object]) -> None:
        """Capture the moment of an alert; `report` gets a status (done or failed) and a sentence, in this loop."""
        if len(self._capturing) > MOST_CAPTURES_WAITING:
            report("failed", f"not kept: {MOST_CAPTURES_WAITING} captures are waiting already")
        else:
            _begin(self._keep(alert, at, report), self._capturing)

    def mark(self, at: float, alert: str, action: str) -> None:
        """Mark an action; while too many marks are waiting, further ones are dropped."""
        if len(self._marking) <= MOST_MARKS_WAITING:
            _begin(self._leave_mark(at, alert, action), self._marking)

    async def finish(self) -> None:
        """Wait for the captures and marks under way, at most `FINISH_SECONDS`."""
        if tasks := self._capturing | self._marking:
            await asyncio.wait(tasks, timeout=FINISH_SECONDS)

    async def _keep(self, alert: Alert, at: float, report: Callable[[str, str], object]) -> None:
        try:
            kept = await self._captures.run(self._capture, alert, at)
        except TimeoutError:
            report("failed", f"not kept: it took over {CAPTURE_SECONDS:.0f} s")
        except Exception as error:  # noqa: BLE001 - a picture that cannot be drawn must not end a run
            report("failed", f"not kept: {str(error) or type(error).__name__}")
        else:
            report("done", kept)

    async def _leave_mark(self, at: float, alert: str, action: str) -> None:
        try:
            await self._marks.run(self._mark, at, alert, action)
        except TimeoutError:
            return  # a mark is an extra


def _begin(work: Coroutine[Any, Any, None], tasks: _Tasks) -> None:
    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
