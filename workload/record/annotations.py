"""Marks on Grafana's dashboards: one for each measured window, and one for each action that an alert led to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from workload.engine.endpoint import check_url
from workload.errors import UsageError
from workload.promql.annotations import ACTION_TAG, WINDOW_TAG
from workload.services.grafana import Grafana, GrafanaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.record.window import Window
    from workload.services.targets import ArmLabels

URL_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "GRAFANA_URL", "GRAFANA_TOKEN", "GRAFANA_TOKEN_FILE"


class Annotate(Protocol):
    """Marks an interval (or an instant, where `end` is None), in seconds since the epoch; never raises."""

    def __call__(self, start: float, end: float | None, text: str, tags: Sequence[str]) -> None:
        """Leave the mark."""


def find_grafana(environ: Mapping[str, str] = os.environ) -> Grafana | None:
    """Return the Grafana that GRAFANA_URL names, with its token; None where no address is given.

    Raises:
        UsageError: the address is no http(s) URL or carries credentials, or the token cannot be one.
    """
    url = environ.get(URL_VARIABLE, "")
    return Grafana(check_url(url, URL_VARIABLE), read_token(environ)) if url else None


def read_token(environ: Mapping[str, str] = os.environ) -> str:
    """Return the token in the file that GRAFANA_TOKEN_FILE names, else that of GRAFANA_TOKEN; "" without either.

    Raises:
        UsageError: the file cannot be read, or the token holds what no header may.
    """
    token = environ.get(TOKEN_VARIABLE, "")
    if file := environ.get(TOKEN_FILE_VARIABLE):
        try:
            token = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{TOKEN_FILE_VARIABLE} {file} cannot be read ({type(error).__name__}).") from None
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError("Grafana's token holds blanks or characters that no header may.", f"Check {TOKEN_VARIABLE}.")
    return token


def no_marks(start: float, end: float | None, text: str, tags: Sequence[str]) -> None:
    """Leave no mark: there is no Grafana."""


def annotator(grafana: Grafana | None, say: Callable[[str], None]) -> Annotate:
    """Return what leaves marks in Grafana, or none without one.

    A mark is an extra: a Grafana that fails is told of once through `say`, and the run goes on.
    """
    if grafana is None:
        return no_marks
    is_told = False

    def annotate(start: float, end: float | None, text: str, tags: Sequence[str]) -> None:
        nonlocal is_told
        try:
            grafana.annotate(start, end, text, tags)
        except GrafanaError as error:
            if not is_told:
                say(f"No annotations: {error}")
            is_told = True

    return annotate


def mark_window(annotate: Annotate, labels: ArmLabels, window: Window) -> None:
    """Mark a window that was measured; dashboards show it under "Run windows"."""
    text = f"{labels.experiment}: {window.arm}, {window.point} (run {labels.run})"
    annotate(window.start, window.end, text, (WINDOW_TAG, labels.experiment, window.arm, labels.run))


def mark_action(annotate: Annotate, at: float, alert: str, action: str, run: str) -> None:
    """Mark that an alert made a run do something, at `at` in seconds since the epoch."""
    annotate(at, None, f"{alert}: {action} (run {run})", (ACTION_TAG, alert, action, run))
