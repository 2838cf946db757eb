"""Who watches a soak: the webhook's server, the heartbeat, and the steering that both feed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from exporter.web.server import BackgroundServer
from workload.services.alert import readable
from workload.services.alert_webhook import webhook
from workload.services.own_thread import in_own_thread
from workload.soak.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from exporter.agent.soak import SoakMetrics
    from workload.services.alert import Alert, Notification
    from workload.services.alert_confirmation import Confirm
    from workload.services.alertmanager import LocalAlertmanager
    from workload.services.prometheus_server import LocalPrometheus
    from workload.soak.pace import Pace
    from workload.soak.steering import Steering


@asynccontextmanager
async def served(steering: Steering, metrics: SoakMetrics, token: str, port: int) -> AsyncIterator[str]:
    """Serve the webhook on 127.0.0.1 in a thread of its own; yield its "host:port". Enter it in the event loop.

    What comes in is handed to the loop in which the soak runs, so that nothing of the steering needs a lock.

    Raises:
        UsageError: the port is in use.
    """
    loop = asyncio.get_running_loop()

    async def receive(notification: Notification) -> bool:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(steering.receive(notification), loop))

    def count(outcome: str) -> None:
        metrics.requests.labels(outcome).inc()

    server = BackgroundServer(webhook(token, receive, count), port=port, flag="--webhook-port")
    try:
        yield server.start()
    finally:
        # In a thread: a message that is being received now is answered by this loop.
        await in_own_thread(server.close)


def watchers(
    steering: Steering,
    pace: Pace,
    alertmanager: LocalAlertmanager,
    prometheus: LocalPrometheus,
    prove: Callable[[], Awaitable[None]],
    confirm: Confirm,
    metrics: SoakMetrics,
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """Return what runs beside the soak: the heartbeat, and what undoes actions."""
    unreadable = 0

    def firing() -> Sequence[Alert]:
        nonlocal unreadable
        alerts, odd = readable(alertmanager.client.firing())
        if odd > unreadable:
            metrics.ignored.labels("unreadable").inc(odd - unreadable)
        unreadable = odd
        return confirm(alerts)

    servers = {"Prometheus": prometheus.client.ready, "Alertmanager": alertmanager.client.ready}
    heartbeat = Heartbeat(steering, pace, servers, firing, prove)
    return [steering.keep_lifting, heartbeat.keep_watching]
