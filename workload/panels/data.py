"""What a panel shows in a run: the values of its queries over the windows of each arm."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from workload.services.prometheus import NoDataError, PrometheusClient, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.panels.panel import Panel
    from workload.record.window import Window

# More points than this do not fit a figure's width.
MAX_POINTS = 600
MIN_STEP_SECONDS = 0.25


@dataclass(frozen=True, eq=False)
class Trace:
    """One line of one block: `seconds` since the window's start and `values`, both of shape (n,); n may be 0."""

    arm: str
    block: int
    point: str
    legend: str
    promql: str
    _: KW_ONLY
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]


def step_of(window: Window) -> float:
    """Return the step in seconds at which a window is drawn."""
    return max(MIN_STEP_SECONDS, round((window.end - window.start) / MAX_POINTS, 3))


def fetch(panel: Panel, client: PrometheusClient, run: str, experiment: str, windows: Sequence[Window]) -> list[Trace]:
    """Return the traces of a panel, one for each series; a query without data gives one without points, never zeros.

    A value that looks back to before its window would show what ran there: the trace begins after it.
    """
    traces = []
    for window in windows:
        step = step_of(window)
        labels = {"run": run, "experiment": experiment, "arm": window.arm}
        for line in panel.lines:
            promql = line.query.scoped(labels, step)
            try:
                # one step further: the grid starts at the window's start and would stop short of its last scrape
                found = client.query_range(promql, window.start, window.end + step, step)
            except NoDataError:
                found = []
            silence = Series({}, np.empty(0), np.empty(0))
            own = window.start + line.query.reach_seconds(step)
            traces += [
                Trace(
                    window.arm,
                    window.block,
                    window.point,
                    line.named(series.labels) if found else line.legend,
                    promql,
                    seconds=series.times[series.times >= own] - window.start,
                    values=_counted(panel, series.values[series.times >= own]),
                )
                for series in found or [silence]
            ]
    return traces


def _counted(panel: Panel, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of a trace; a total begins at 0, because what came before is of another window."""
    return values - values[0] if panel.is_total and values.size else values


def peak(traces: Sequence[Trace], legend: str) -> float | None:
    """Return the highest value of the traces of a line; None without one."""
    known = [np.nanmax(trace.values) for trace in traces if trace.legend == legend and np.isfinite(trace.values).any()]
    return float(max(known)) if known else None
