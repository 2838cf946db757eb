"""Alerts, as the continuous load hears of them: told on the console, and obeyed where they ask for a pause."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.server import BackgroundServer
from workload.errors import UsageError
from workload.soak.alert import WATCHDOG
from workload.soak.webhook import webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from workload.soak.alert import Alert, Message

HOLDING = {"pause", "stop"}
FORGET_SECONDS = 660.0
"""Alertmanager tells of a firing alert every five minutes: what was not told of twice in a row fires no more."""


@dataclass
class Notices:
    """The newest state of every alert that was told of, for `workload.soak.webhook`.

    Args:
        console: where each change is told.
        clock: seconds, monotonic.
    """

    console: Console
    clock: Callable[[], float] = time.monotonic
    _newest: dict[str, tuple[Alert, float]] = field(default_factory=dict)

    async def receive(self, message: Message) -> bool:
        """Take a message and return whether it told anything new; one that comes late changes nothing."""
        news = [self._take(alert) for alert in message.alerts]
        return any(news)

    def held_by(self) -> list[str]:
        """Return the names of the alerts that ask for a pause and fire now."""
        now = self.clock()
        firing = [
            alert for alert, at in self._newest.values() if alert.status == "firing" and now - at < FORGET_SECONDS
        ]
        return sorted({alert.name for alert in firing if alert.action in HOLDING})

    @contextmanager
    def listening(self, address: str, token_file: Path) -> Iterator[str]:
        """Take Alertmanager's messages at `address` ("host:port") while the block lasts; yield the real address.

        Raises:
            UsageError: there is no token in the file, or the address cannot be used.
        """
        try:
            token = token_file.read_text().strip()
        except OSError as error:
            raise UsageError(f"Cannot read {token_file}: {error.strerror}.", "Name the token's file.") from error
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
        if known and alert.age < known[0].age:
            return False
        now = self.clock()
        self._newest[alert.fingerprint] = (alert, now)
        self._newest = {print_: told for print_, told in self._newest.items() if now - told[1] < FORGET_SECONDS}
        if known and alert.age == known[0].age:
            return False
        if alert.name != WATCHDOG:
            action = f" (asks for: {alert.action})" if alert.action else ""
            self.console.print(f"{alert.status}: {alert.name}{action}", markup=False, highlight=False)
        return True
