"""Grafana annotations: one per measured window, and one per action that an alert caused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from workload.engine.endpoint import check_url
from workload.promql.annotations import ACTION_TAG, WINDOW_TAG
from workload.services.grafana import Grafana, GrafanaError
from workload.services.grafana_token import read_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.record.window import Window
    from workload.services.targets import ArmLabels

URL_VARIABLE = "GRAFANA_URL"


class Annotate(Protocol):
    """Annotates an interval, or an instant if `end` is None, in seconds since the epoch; never raises."""

    def __call__(self, start: float, end: float | None, text: str, tags: Sequence[str]) -> None:
        """Write the annotation."""


def find_grafana(environ: Mapping[str, str] = os.environ) -> Grafana | None:
    """Return the Grafana at GRAFANA_URL, with its token; None if the variable is not set.

    Raises:
        UsageError: the address is not an http(s) URL or has credentials, or the token is not valid.
    """
    url = environ.get(URL_VARIABLE, "")
    return Grafana(check_url(url, URL_VARIABLE), read_token(environ)) if url else None


def no_marks(start: float, end: float | None, text: str, tags: Sequence[str]) -> None:
    """Do nothing: there is no Grafana to annotate."""


def annotator(grafana: Grafana | None, say: Callable[[str], None]) -> Annotate:
    """Return a function that writes annotations to Grafana; without a Grafana it does nothing.

    Annotations are optional: the first failure of Grafana is reported through `say`, and the run continues.
    """
    if grafana is None:
        return no_marks
    has_failed = False

    def annotate(start: float, end: float | None, text: str, tags: Sequence[str]) -> None:
        nonlocal has_failed
        try:
            grafana.annotate(start, end, text, tags)
        except GrafanaError as error:
            if not has_failed:
                say(f"No annotations: {error}")
            has_failed = True

    return annotate


def mark_window(annotate: Annotate, labels: ArmLabels, window: Window) -> None:
    """Annotate a measured window; dashboards show it under "Run windows"."""
    text = f"{labels.experiment}: {window.arm}, {window.point} (run {labels.run})"
    annotate(window.start, window.end, text, (WINDOW_TAG, labels.experiment, window.arm, labels.run))


def mark_action(annotate: Annotate, at: float, alert: str, action: str, run: str) -> None:
    """Annotate an action that an alert caused, at `at` in seconds since the epoch."""
    annotate(at, None, f"{alert}: {action} (run {run})", (ACTION_TAG, alert, action, run))
