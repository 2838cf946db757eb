"""What an experiment draws from: the run's data and summary, its panels' traces, and the folder to write to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workload.charts.time_series import draw
from workload.panels.data import Trace, fetch

if TYPE_CHECKING:
    from pathlib import Path

    from workload.panels.panel import Figure, Panel
    from workload.record.bundle import Bundle
    from workload.record.results import RunData
    from workload.services.prometheus import PrometheusClient

S = TypeVar("S")


@dataclass(frozen=True)
class Drawing(Generic[S]):
    """What an experiment draws from; `S` is the type of its summary.

    Attributes:
        experiment: its name.
        arms: names of all arms in order, which gives each its colour.
        data: what was measured.
        summary: what the experiment's `reduce` returned, and what the run added.
        client: Prometheus, for the panels.
        bundle: the run's folder, which keeps the panels' data and PromQL.
        folder: where the pictures go.
        footer: the origin that every picture states.
    """

    experiment: str
    arms: tuple[str, ...]
    data: RunData
    summary: S
    client: PrometheusClient
    _: KW_ONLY
    bundle: Bundle
    folder: Path
    footer: str

    def traces(self, panel: Panel) -> list[Trace]:
        """Return a panel's traces over all windows, and keep them as CSV with their PromQL in the bundle."""
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


Traces = Mapping[str, Sequence[Trace]]


def draw_panels(
    figures: Sequence[Figure], title: Callable[[Figure, Any, Traces], str] = lambda figure, *_: figure.title
) -> Callable[[Drawing[Any]], list[Path]]:
    """Return the `draw` of an experiment whose pictures are panels over time.

    Args:
        figures: the pictures.
        title: from a figure, the summary and the traces of each panel, what the run shows.
    """

    def draw_all(drawing: Drawing[Any]) -> list[Path]:
        paths = []
        for figure in figures:
            traces = {panel.key: drawing.traces(panel) for panel in figure.panels}
            paths.append(drawing.folder / figure.file)
            words = title(figure, drawing.summary, traces)
            draw(figure, traces, drawing.arms, drawing.footer, paths[-1], title=words)
        return paths

    return draw_all
