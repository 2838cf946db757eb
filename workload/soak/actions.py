"""The actions of a soak: each is journaled, counted and marked in the dashboards."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.agent.soak import SoakMetrics
    from workload.record.journal import Journal
    from workload.services.alert import Alert
    from workload.soak.alert_effects import AlertEffects

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ActionLog:
    """Records what was done to a run, and why.

    Args:
        journal: gets a row per action.
        metrics: counts actions and ignored alerts.
        effects: marks the actions of alerts in the dashboards.
        dry_run: whether the actions of alerts are only recorded.
        wall: seconds since the epoch.
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
