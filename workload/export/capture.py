"""Saves a dashboard of a run: a picture and a CSV of every panel, the PromQL, and on request a snapshot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from workload.charts.canvas import save
from workload.export.dashboard_picture import sketch_dashboard
from workload.export.panel_series import PanelSeries, TimeRange, promql_of, query_panel, to_csv
from workload.export.picture import Shown, draw
from workload.export.snapshot import embed, title_of
from workload.files import atomic_file
from workload.promql.annotations import DEFAULT_BASELINE
from workload.services.grafana import Grafana, GrafanaError, NoRendererError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from workload.dashboards.catalogue import Dashboard
    from workload.panels.panel import Panel
    from workload.services.prometheus import PrometheusClient

PIXELS = (1000, 500)
PROMQL, WHOLE = "promql.json", "dashboard.png"


@dataclass(frozen=True)
class Capture:
    """The files of a saved dashboard.

    Attributes:
        files: the files that were written, pictures first.
        rendered: how many of the pictures Grafana's renderer made; the others are drawn with matplotlib.
        refusal: why Grafana did not draw; None if it did.
        empty: titles of the panels without data.
        snapshot: the address of the snapshot in Grafana; None if there is none.
    """

    files: tuple[Path, ...]
    rendered: int
    refusal: str | None
    empty: tuple[str, ...]
    snapshot: str | None = None


def capture(
    dashboard: Dashboard,
    client: PrometheusClient,
    scope: Mapping[str, str],
    span: TimeRange,
    folder: Path,
    *,
    footer: str,
    grafana: Grafana | None = None,
    keeps_snapshot: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Capture:
    """Write `KEY.png` and `KEY.csv` for every panel of a dashboard, `promql.json`, and `dashboard.png`, into a folder.

    The labels `scope` of the series, with `baseline` for the arm to compare with, are also the dashboard's variables.
    `grafana` draws the panels if it has a renderer; else matplotlib does, and always the whole dashboard, with the
    origin of the data in the `footer`. `keeps_snapshot` also stores a snapshot with its data in Grafana; `advance` is
    called after each panel.

    Raises:
        PrometheusError: Prometheus failed.
        GrafanaError: Grafana did not accept the snapshot.
        StorageError: the folder cannot be written.
    """
    panels = [panel for row in dashboard.rows for panel in row.panels]
    answers = {panel.key: query_panel(panel, client, scope, span) for panel in panels}
    promql = {panel.key: [promql_of(panel, line, scope, span) for line in panel.lines] for panel in panels}
    shown = Shown(span, arms_of(chain.from_iterable(answers.values())), footer)
    renderer = _Renderer(grafana, dashboard.uid, scope, span)
    pictures, tables, made = [], [], 0
    for panel in panels:
        pictures.append(folder / f"{panel.key}.png")
        if picture := renderer.draw(panel):
            atomic_file.write(pictures[-1], picture)
            made += 1
        else:
            draw(panel, answers[panel.key], shown, pictures[-1])
        tables.append(atomic_file.write(folder / f"{panel.key}.csv", to_csv(answers[panel.key])))
        advance()
    pictures.append(save(sketch_dashboard(dashboard, answers, shown), folder / WHOLE))
    tables.append(atomic_file.write(folder / PROMQL, json.dumps(promql, indent=2) + "\n"))
    snapshot = None
    if grafana and keeps_snapshot:
        start, end = (datetime.fromtimestamp(at, UTC) for at in (span.start, span.end))
        run = scope["run"]
        snapshot = grafana.snapshot(embed(dashboard, answers, run, start, end), title_of(dashboard, run))
    empty = tuple(panel.title for panel in panels if not answers[panel.key])
    return Capture((*pictures, *tables), made, renderer.refusal, empty, snapshot)


def scope_of(run: str, arms: Iterable[str]) -> dict[str, str]:
    """Return a run's labels and, as `baseline`, the arm with which its others are compared."""
    known = sorted(set(arms))
    return {"run": run, "baseline": DEFAULT_BASELINE if DEFAULT_BASELINE in known or not known else known[0]}


def arms_of(answers: Iterable[PanelSeries]) -> list[str]:
    """Return the arms of series in order; a series over all arms has none."""
    return sorted({arm for answer in answers if (arm := answer.labels.get("arm"))})


class _Renderer:
    """Has Grafana draw panels until it fails once; `refusal` then gives the reason."""

    def __init__(self, grafana: Grafana | None, uid: str, scope: Mapping[str, str], span: TimeRange) -> None:
        self.refusal: str | None = None if grafana else "no Grafana was named"
        self._grafana = grafana
        self._place = (uid, scope, span)
        self._ids: dict[str, int] | None = None

    def draw(self, panel: Panel) -> bytes | None:
        """Return a panel's picture; None if Grafana cannot draw it."""
        if self._grafana is None or self.refusal:
            return None
        uid, scope, span = self._place
        try:
            if self._ids is None:
                self._ids = self._find_panels(self._grafana, uid)
            if (number := self._ids.get(panel.title)) is None:
                return None  # a dashboard of another version
            return self._grafana.picture(uid, number, span.start, span.end, variables=scope, size=PIXELS)
        except GrafanaError as error:
            self.refusal = str(error)
            return None

    @staticmethod
    def _find_panels(grafana: Grafana, uid: str) -> dict[str, int]:
        if not grafana.can_render():
            raise NoRendererError(f"Grafana at {grafana.url} has no image renderer.", "Set up grafana-image-renderer.")
        rows = grafana.dashboard(uid)["panels"]
        # a row that is closed holds its panels
        panels = [panel for row in rows for panel in (row, *row.get("panels", ())) if panel["type"] != "row"]
        return {panel["title"]: int(panel["id"]) for panel in panels}
