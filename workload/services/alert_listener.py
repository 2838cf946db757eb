"""Alerts for the continuous load: printed on the console, and obeyed if they ask for a pause."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.web.server import BackgroundServer
from workload.services.alert import WATCHDOG, Alert, Confirm, Notification, steering_alerts
from workload.services.alert_webhook import read_token, webhook
from workload.services.own_thread import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console


PAUSING = frozenset(rule for rule in steering_alerts() if rule[0] in {"pause", "stop"})
MOST_ALERTS = 1024
FORGET_SECONDS = 660.0
"""Alertmanager repeats a firing alert every five minutes; one not repeated twice in a row counts as ended."""


@dataclass
class AlertListener:
    """Receives the notifications of `workload.services.alert_webhook`, and remembers each alert's latest state.

    Args:
        console: where each change is printed.
        confirm: keeps the alerts whose state Prometheus confirms; asked about alerts that may pause the load.
    """

    console: Console
    confirm: Confirm
    clock: Callable[[], float] = time.monotonic
    _newest: dict[str, tuple[Alert, float]] = field(default_factory=dict)

    async def receive(self, notification: Notification) -> bool:
        """Handle a notification and return whether it changed anything; a late one does not.

        Raises:
            DependencyDownError: an alert may pause the load, but Prometheus does not answer whether it fires.
        """
        pausing = [alert for alert in notification.alerts if _may_pause(alert)]
        true = {id(alert) for alert in await in_own_thread(self.confirm, pausing)} if pausing else set()
        news = [self._take(alert) for alert in notification.alerts if id(alert) in true or not _may_pause(alert)]
        return any(news)

    def pausing(self) -> list[str]:
        """Return the names of the firing alerts that ask for a pause."""
        now = self.clock()
        firing = [alert for alert, at in self._newest.values() if alert.is_firing and now - at < FORGET_SECONDS]
        return sorted({alert.name for alert in firing if _may_pause(alert)})

    @contextmanager
    def listening(self, address: str, token_file: Path) -> Iterator[str]:
        """Receive notifications at `address` ("host:port") while the block lasts; yield the actual address.

        Raises:
            UsageError: the file has no token, or the address cannot be used.
        """
        token = read_token(token_file)
        host, _, port = address.rpartition(":")
        app = webhook(token, self.receive, lambda _: None)
        server = BackgroundServer(app, host=host.strip("[]"), port=int(port), flag="--webhook-listen")
        try:
            yield server.start()
        finally:
            server.close()

    def _take(self, alert: Alert) -> bool:
        known = self._newest.get(alert.fingerprint)
        if known and alert.order < known[0].order and not _is_news(alert, known[0]):
            return False
        now = self.clock()
        if not known and len(self._newest) >= MOST_ALERTS:
            return False
        self._newest[alert.fingerprint] = (alert, now)
        self._newest = {key: state for key, state in self._newest.items() if now - state[1] < FORGET_SECONDS}
        if known and alert.order == known[0].order:
            return False
        if alert.name != WATCHDOG:
            action = f" (asks for: {alert.action})" if alert.action else ""
            self.console.print(f"{alert.status}: {alert.name}{action}", markup=False, highlight=False)
        return True


def _may_pause(alert: Alert) -> bool:
    return (alert.action, alert.name) in PAUSING


def _is_news(alert: Alert, known: Alert) -> bool:
    """Return whether an alert only seems late: a clock was set back, and Prometheus confirmed the new beginning."""
    return _may_pause(alert) and alert.starts_at != known.starts_at
