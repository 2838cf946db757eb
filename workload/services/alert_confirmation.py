"""Asks Prometheus itself whether an alert fires: what reached Alertmanager may have been sent by anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.services.alert import Alert

    Confirm = Callable[[Sequence[Alert]], list[Alert]]


def confirmer(firing: Callable[[], Sequence[Mapping[str, str]]]) -> Confirm:
    """Return what keeps, of some alerts, those whose state Prometheus tells too. It blocks, and raises as `firing`.

    An alert that is said to fire is kept while one fires there; one that is said to have ended while none does.

    Args:
        firing: returns the labels of the alerts that fire now, as `PrometheusClient.firing` does.
    """

    def confirm(alerts: Sequence[Alert]) -> list[Alert]:
        now = firing()
        return [alert for alert in alerts if any(_is_of(alert, labels) for labels in now) == alert.is_firing]

    return confirm


def _is_of(alert: Alert, labels: Mapping[str, str]) -> bool:
    """Return whether an alert is the one of those labels: on the way Prometheus adds its external ones, and no more."""
    return labels.get("action") == alert.labels.get("action") and labels.items() <= alert.labels.items()
