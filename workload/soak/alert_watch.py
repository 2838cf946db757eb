"""How alerts reach a soak: the webhook's server, and the tasks that confirm alerts and watch who owns the files."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from exporter.web.server import BackgroundServer
from workload.errors import DependencyDownError
from workload.services.alert import WATCHDOG, Alert, Confirm, Notification, readable
from workload.services.alert_webhook import webhook
from workload.services.own_thread import in_own_thread
from workload.services.process import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from exporter.agent.soak import SoakMetrics
    from workload.services.alertmanager import AlertmanagerClient
    from workload.soak.pace import Pace
    from workload.soak.steering import Steering

CHECK_SECONDS = 5.0
EXIT_CODE = 4


@asynccontextmanager
async def served(
    steering: Steering, metrics: SoakMetrics, token: str, port: int, *, host: str = HOST
) -> AsyncIterator[str]:
    """Serve the webhook in a thread of its own; yield its "host:port". Enter it in the event loop.

    Notifications are handled in the loop of the soak, so the steering needs no lock.

    Raises:
        UsageError: the port is in use.
    """
    loop = asyncio.get_running_loop()

    async def receive(notification: Notification) -> bool:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(steering.receive(notification), loop))

    def count(outcome: str) -> None:
        metrics.requests.labels(outcome).inc()

    server = BackgroundServer(webhook(token, receive, count), host=host, port=port, flag="--webhook-port")
    try:
        yield server.start()
    finally:
        # In a thread: this loop must answer the notification that is being received.
        await in_own_thread(server.close)


def confirmed_alerts(
    client: AlertmanagerClient, confirm: Confirm, metrics: SoakMetrics
) -> Callable[[], Sequence[Alert]]:
    """Return a function that blocks and returns the alerts which fire and are confirmed; it counts unreadable ones.

    It raises as `AlertmanagerClient.firing` and `confirm`.
    """
    counted = 0

    def firing() -> Sequence[Alert]:
        nonlocal counted
        alerts, unreadable = readable(client.firing())
        if unreadable > counted:
            metrics.ignored.labels("unreadable").inc(unreadable - counted)
        counted = unreadable
        return confirm(alerts)

    return firing


def heartbeat_in(client: AlertmanagerClient, beat: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that blocks and returns whether Alertmanager has the firing watchdog; `beat` is called if so.

    For an Alertmanager that sends us no heartbeat. That the alerts it does send arrive is not known from it; the alerts
    that fire are asked for every half a minute anyway.
    """

    def hears() -> bool:
        try:
            alerts, _ = readable(client.firing())
        except DependencyDownError:
            return False
        fires = any(alert.name == WATCHDOG for alert in alerts)
        if fires:
            beat()
        return fires

    return hears


async def watch_ownership(
    pace: Pace, ours: dict[str, Callable[[], bool]], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Check every few seconds, and end the run once a file is no longer ours.

    `ours` has, by name, a function that returns whether a file is still as we wrote it.
    """
    while True:
        for name, is_ours in ours.items():
            if not await asyncio.to_thread(is_ours):
                pace.end(f"given up: {name} was replaced, so an unknown part was not recorded or watched", EXIT_CODE)
        await sleep(CHECK_SECONDS)
