"""The servers and folders of a soak, and the capture of panels when an alert fires."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workload.dashboards.catalogue import VLLM_METRICS
from workload.export.capture import capture
from workload.export.panel_series import TimeRange
from workload.services.process import HOST
from workload.soak.soak import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.engine.launcher import Launcher
    from workload.record.bundle import Bundle
    from workload.services.alert import Alert
    from workload.services.alertmanager import AttachedAlertmanager, LocalAlertmanager
    from workload.services.grafana import Grafana
    from workload.services.prometheus import PrometheusClient
    from workload.services.prometheus_server import AttachedPrometheus, LocalPrometheus

BEFORE_SECONDS = 600.0
FOLDER = "captures"
MOST_CAPTURES = 100
"""An alert that flaps for hours must not fill the disk with captures."""


@dataclass(frozen=True, kw_only=True)
class SoakEnvironment:
    """The engine, corpus and services of a soak, all running already; the soak stops none of them.

    Attributes:
        owns_engine: whether the engine is ours to restart.
        store, embedder, questions: what the agent retrieves from and answers.
        prometheus: scrapes, and evaluates the alerts; without it, in tests, nothing is recorded.
        alertmanager: sends the alerts to the webhook, which listens at `webhook_host`; None if no alert steers.
        capture: captures the panels of an alert, see `panel_capture`.
        mark: marks an action in the dashboards: seconds since the epoch, alert, action. Never raises.
        free: returns the free space of the results' disk, in bytes.
    """

    launcher: Launcher
    owns_engine: bool
    store: DocumentStore
    embedder: Embedder
    questions: Sequence[Question]
    prometheus: LocalPrometheus | AttachedPrometheus | None = None
    alertmanager: LocalAlertmanager | AttachedAlertmanager | None = None
    webhook_host: str = HOST
    webhook_port: int = 9096
    capture: Callable[[Alert, float], str] = lambda *_: "nothing to capture with"
    mark: Callable[[float, str, str], None] = lambda *_: None
    free: Callable[[Bundle], int] = free_bytes


def panel_capture(
    client: PrometheusClient, bundle: Bundle, scope: Mapping[str, str], grafana: Grafana | None = None
) -> Callable[[Alert, float], str]:
    """Return a function that captures the engine's panels of the ten minutes before an alert, and returns where.

    The panels are pictures and CSV. The function blocks for some seconds, and raises as `export.capture.capture`.

    `scope` are the labels of the run's series; `grafana` draws the pictures, if it can.
    """

    def keep(alert: Alert, at: float) -> str:
        root = bundle.folder / FOLDER
        if root.exists() and sum(1 for _ in root.iterdir()) >= MOST_CAPTURES:
            return f"not kept: there are {MOST_CAPTURES} captures already"
        folder = root / f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S}-{alert.name}"
        footer = f"run {bundle.run_id}; the {BEFORE_SECONDS / 60:.0f} minutes before {alert.name}"
        capture(VLLM_METRICS, client, scope, TimeRange(at - BEFORE_SECONDS, at), folder, footer=footer, grafana=grafana)
        return f"kept in {folder.relative_to(bundle.folder)}"

    return keep
