"""Keeps the panels of the minutes before an alert in the run's folder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workload.experiment import Window
from workload.figures import draw
from workload.panels.data import fetch
from workload.panels.vllm_metrics import FIGURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.bundle import Bundle
    from workload.prometheus import PrometheusClient
    from workload.soak.alert import Alert

BEFORE_SECONDS = 600.0
FOLDER = "captures"
MOST_CAPTURES = 100
"""An alert that flaps for hours must not fill the disk with its portraits."""


def keeper(client: PrometheusClient, bundle: Bundle, experiment: str, arm: str) -> Callable[[Alert, float], str]:
    """Return what draws the engine's panels over the ten minutes before an alert, and says where they are.

    It blocks for some seconds. Raises `PrometheusError` where Prometheus fails.
    """

    def keep(alert: Alert, at: float) -> str:
        root = bundle.folder / FOLDER
        if root.exists() and sum(1 for _ in root.iterdir()) >= MOST_CAPTURES:
            return f"nothing more is kept: there are {MOST_CAPTURES} captures"
        folder = root / f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S}-{alert.name}"
        folder.mkdir(parents=True, exist_ok=True)
        window = Window(arm, 0, "capture", 0, at - BEFORE_SECONDS, at)
        for figure in FIGURES:
            traces = {panel.key: fetch(panel, client, bundle.run_id, experiment, [window]) for panel in figure.panels}
            footer = f"run {bundle.run_id}; the {BEFORE_SECONDS / 60:.0f} minutes before {alert.name}"
            draw(figure, traces, (arm,), footer, folder / figure.file)
        return f"kept in {folder.relative_to(bundle.folder)}"

    return keep
