"""What a soak runs on and is watched by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.soak.soak import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.engine.launcher import Launcher
    from workload.record.bundle import Bundle
    from workload.services.alert import Alert
    from workload.services.alertmanager import LocalAlertmanager
    from workload.services.prometheus_server import LocalPrometheus


@dataclass(frozen=True, kw_only=True)
class SoakEnvironment:
    """The engine, corpus and services of a soak, all running already; the soak stops none of them.

    Attributes:
        launcher: brings up the engine.
        owns_engine: whether the engine is ours to restart.
        store, embedder, questions: what the agent retrieves from and answers.
        prometheus: scrapes, and evaluates the alerts; without it, in tests, nothing is recorded.
        alertmanager: sends the alerts; None if no alert steers.
        webhook_port: where it sends them.
        capture: captures the panels of an alert, see `workload.soak.capture`.
        mark: marks an action in the dashboards: seconds since the epoch, alert, action. Never raises.
        free: returns the free space of the disk that holds the results, in bytes.
    """

    launcher: Launcher
    owns_engine: bool
    store: DocumentStore
    embedder: Embedder
    questions: Sequence[Question]
    prometheus: LocalPrometheus | None = None
    alertmanager: LocalAlertmanager | None = None
    webhook_port: int = 9096
    capture: Callable[[Alert, float], str] = lambda *_: "nothing to capture with"
    mark: Callable[[float, str, str], None] = lambda *_: None
    free: Callable[[Bundle], int] = free_bytes
