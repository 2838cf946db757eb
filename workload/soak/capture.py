"""Captures the panels of the minutes before an alert into the run's folder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workload.dashboards.catalogue import VLLM_METRICS
from workload.export.capture import capture
from workload.export.panel_series import TimeRange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workload.record.bundle import Bundle
    from workload.services.alert import Alert
    from workload.services.grafana import Grafana
    from workload.services.prometheus import PrometheusClient

BEFORE_SECONDS = 600.0
FOLDER = "captures"
MOST_CAPTURES = 100
"""An alert that flaps for hours must not fill the disk with captures."""


def panel_capture(
    client: PrometheusClient, bundle: Bundle, scope: Mapping[str, str], grafana: Grafana | None = None
) -> Callable[[Alert, float], str]:
    """Return a function that captures the engine's panels of the ten minutes before an alert, and returns where.

    The panels are pictures and CSV. The function blocks for some seconds, and raises as `export.capture.capture`.

    Args:
        client: Prometheus.
        bundle: the run's.
        scope: the labels of the run's series.
        grafana: draws the pictures, if it can.
    """

    def keep(alert: Alert, at: float) -> str:
        root = bundle.folder / FOLDER
        if root.exists() and sum(1 for _ in root.iterdir()) >= MOST_CAPTURES:
            return f"not kept: there are {MOST_CAPTURES} captures already"
        folder = root / f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S}-{alert.name}"
        footer = f"run {bundle.run_id}; the {BEFORE_SECONDS / 60:.0f} minutes before {alert.name}"
        capture(VLLM_METRICS, client, scope, TimeRange(at - BEFORE_SECONDS, at), folder, footer, grafana=grafana)
        return f"kept in {folder.relative_to(bundle.folder)}"

    return keep
