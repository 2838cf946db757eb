"""What an experiment needs to draw its files: the run's data and summary, its panels' traces, and where to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.charts.time_series import draw
from workload.panels.data import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from workload.panels.data import Trace
    from workload.panels.panel import Figure, Panel
    from workload.record.bundle import Bundle
    from workload.record.results import RunData
    from workload.services.prometheus import PrometheusClient


@dataclass(frozen=True)
class Drawing:
    """A run that is to be drawn.

    Attributes:
        experiment: its name.
        arms: names of all arms in order, which gives each its colour.
        data: what was measured.
        summary: what the experiment's `reduce` made of it.
        client: Prometheus, for the panels.
        bundle: the run's folder; panels leave their data and PromQL there.
        folder: where the files named by the plan go.
        footer: what every picture must say about its origin.
    """

    experiment: str
    arms: tuple[str, ...]
    data: RunData
    summary: dict[str, Any]
    client: PrometheusClient
    bundle: Bundle
    folder: Path
    footer: str

    def traces(self, panel: Panel) -> list[Trace]:
        """Return a panel's traces over all windows; keep them as CSV and the PromQL behind them in the bundle."""
        windows = [part.window for part in self.data.measured]
        found = fetch(panel, self.client, self.bundle.run_id, self.experiment, windows)
        rows = (
            (trace.arm, trace.block, trace.point, trace.legend, *value)
            for trace in found
            for value in zip(trace.seconds.tolist(), trace.values.tolist(), strict=True)
        )
        self.bundle.write_csv(f"panels/{panel.key}.csv", ("arm", "block", "point", "legend", "seconds", "value"), rows)
        self.bundle.note_promql(panel.key, sorted({trace.promql for trace in found}))
        return found


def draw_panels(figures: Sequence[Figure]) -> Callable[[Drawing], list[Path]]:
    """Return the `draw` of an experiment whose files are panels over time."""

    def draw_all(drawing: Drawing) -> list[Path]:
        paths = []
        for figure in figures:
            traces = {panel.key: drawing.traces(panel) for panel in figure.panels}
            paths.append(drawing.folder / figure.file)
            draw(figure, traces, drawing.arms, drawing.footer, paths[-1])
        return paths

    return draw_all
