"""The instruments of a soak, a long run that alerts steer; served with the agent's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

from exporter.agent.instruments import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable


IGNORED = ("unknown", "unconfirmed", "unreadable")
REQUESTS = ("accepted", "duplicate", "unauthorized", "malformed", "too_large")


class SoakMetrics:
    """The instruments of one soak.

    Args:
        actions: every possible (action, alert); any other is counted as `other`.
    """

    def __init__(self, registry: CollectorRegistry, actions: Iterable[tuple[str, str]]) -> None:
        self._actions = frozenset(actions)
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.paused = gauge(
            "hop2rag_soak_paused", "1 while a soak is paused by an alert, a lost heartbeat, the engine or the disk."
        )
        self.level = gauge("hop2rag_soak_concurrency", "Questions that a soak currently allows in flight.")
        self.actions = counter(
            "hop2rag_soak_actions_total",
            "Actions of a soak because of an alert; in a dry run, actions that it would have taken.",
            ["action", "alert"],
        )
        self.requests = counter(
            "hop2rag_soak_webhook_requests_total", "Messages to a soak's webhook, by outcome.", ["outcome"]
        )
        self.ignored = counter(
            "hop2rag_soak_alerts_ignored_total",
            "Alerts that a soak ignored: not one of our rules, not confirmed by Prometheus, or unreadable.",
            ["reason"],
        )
        self.restarts = counter("hop2rag_soak_engine_restarts_total", "Restarts of an engine that had died or hung.")
        for action, alert in (*self._actions, (OTHER, OTHER)):
            self.actions.labels(action, alert)
        for outcome in REQUESTS:
            self.requests.labels(outcome)
        for reason in IGNORED:
            self.ignored.labels(reason)

    def acted(self, action: str, alert: str) -> None:
        """Count an action."""
        known = (action, alert) in self._actions
        self.actions.labels(*((action, alert) if known else (OTHER, OTHER))).inc()
