"""Alerts, as the continuous load hears of them: told on the console, and obeyed where they ask for a pause."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.web.server import BackgroundServer
from workload.errors import UsageError
from workload.files.enclosed import text_of
from workload.services.alert import WATCHDOG, steering_alerts
from workload.services.alert_webhook import webhook
from workload.services.own_thread import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from workload.services.alert import Alert, Notification
    from workload.services.alert_confirmation import Confirm

HOLDING = frozenset(rule for rule in steering_alerts() if rule[0] in {"pause", "stop"})
MOST_ALERTS = 1024
FORGET_SECONDS = 660.0
"""Alertmanager tells of a firing alert every five minutes: what was not told of twice in a row fires no more."""


@dataclass
class AlertListener:
    """The newest state of every alert that was told of, for `workload.services.alert_webhook`.

    Args:
        console: where each change is told.
        confirm: keeps those of some alerts whose state Prometheus tells too; asked of what may hold the load.
        clock: seconds, monotonic.
    """

    console: Console
    confirm: Confirm
    clock: Callable[[], float] = time.monotonic
    _newest: dict[str, tuple[Alert, float]] = field(default_factory=dict)

    async def receive(self, notification: Notification) -> bool:
        """Take a message and return whether it told anything new; one that comes late changes nothing.

        Raises:
            DependencyDownError: Prometheus cannot be asked whether something fires that may hold the load.
        """
        holding = [alert for alert in notification.alerts if _may_hold(alert)]
        true = {id(alert) for alert in await in_own_thread(self.confirm, holding)} if holding else set()
        news = [self._take(alert) for alert in notification.alerts if id(alert) in true or not _may_hold(alert)]
        return any(news)

    def pausing(self) -> list[str]:
        """Return the names of the alerts that ask for a pause and fire now."""
        now = self.clock()
        firing = [alert for alert, at in self._newest.values() if alert.is_firing and now - at < FORGET_SECONDS]
        return sorted({alert.name for alert in firing if _may_hold(alert)})

    @contextmanager
    def listening(self, address: str, token_file: Path) -> Iterator[str]:
        """Take Alertmanager's messages at `address` ("host:port") while the block lasts; yield the real address.

        Raises:
            UsageError: there is no token in the file, or the address cannot be used.
        """
        try:
            token = text_of(token_file.resolve()).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no plain file of text"
            raise UsageError(f"Cannot read {token_file}: {reason}.", "Name the token's file.") from error
        if not token:
            raise UsageError(f"{token_file} is empty.", "It must hold the token that Alertmanager presents.")
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
        self._newest = {print_: told for print_, told in self._newest.items() if now - told[1] < FORGET_SECONDS}
        if known and alert.order == known[0].order:
            return False
        if alert.name != WATCHDOG:
            action = f" (asks for: {alert.action})" if alert.action else ""
            self.console.print(f"{alert.status}: {alert.name}{action}", markup=False, highlight=False)
        return True


def _may_hold(alert: Alert) -> bool:
    return (alert.action, alert.name) in HOLDING


def _is_news(alert: Alert, known: Alert) -> bool:
    """Return whether what seems late is not: a clock was set back, and Prometheus confirmed another beginning."""
    return _may_hold(alert) and alert.starts_at != known.starts_at
