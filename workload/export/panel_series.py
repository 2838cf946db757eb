"""Queries a dashboard's panels for a run as Grafana does: over the whole time range, at the panel's own step."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from workload.dashboards.panel_model import legend, line_interval, min_interval
from workload.files.csv_cells import cell
from workload.panels.panel import PLACEHOLDER, Line, Panel
from workload.promql.query import RANGE
from workload.services.prometheus import NoDataError, PrometheusClient, Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from workload.record.window import Window


# Grafana's rule: at most one point per pixel of the panel's width.
MAX_POINTS = 1000
SCRAPE_SECONDS = 1.0
STEPS = {"10ms": 0.01, "100ms": 0.1, "5s": 5.0}


@dataclass(frozen=True)
class TimeRange:
    """A time range in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start

    @classmethod
    def over(cls, windows: Sequence[Window]) -> Self:
        """Return the time from the first window's start to the last one's end."""
        return cls(min(window.start for window in windows), max(window.end for window in windows))


@dataclass(frozen=True, eq=False)
class PanelSeries:
    """One series of a panel.

    Attributes:
        line: the query that returned it.
        legend: distinguishes the series from the panel's others, with its arm.
        times: (n,) in seconds since the epoch; n is 1 for an instant query.
        values: (n,), NaN for a gap.
    """

    line: Line
    legend: str
    labels: Mapping[str, str]
    times: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def last(self) -> float:
        """The last value that is a number; NaN if there is none."""
        known = self.values[~np.isnan(self.values)]
        return float(known[-1]) if known.size else float("nan")


def step_of(panel: Panel, span: TimeRange) -> float:
    """Return the step in seconds at which Grafana queries a panel that is `MAX_POINTS` pixels wide."""
    return max(finest_of(panel), round(span.seconds / MAX_POINTS, 3))


def finest_of(panel: Panel, line: Line | None = None) -> float:
    """Return the shortest step of a panel or of one of its lines, in seconds: its own, else the scrape interval."""
    own = line_interval(panel, line) if line else min_interval(panel)
    return STEPS.get(own, SCRAPE_SECONDS)


def is_instant(panel: Panel, line: Line) -> bool:
    """Return whether a query is evaluated once, at the end: it covers the whole time range or gives a single value."""
    return RANGE in line.query.expression or panel.kind == "stat"


def promql_of(panel: Panel, line: Line, scope: Mapping[str, str], span: TimeRange) -> str:
    """Return a line's PromQL for the series with the labels `scope`."""
    return line.query.scoped(scope, step_of(panel, span), finest_of(panel, line), span.seconds)


def query_panel(panel: Panel, client: PrometheusClient, scope: Mapping[str, str], span: TimeRange) -> list[PanelSeries]:
    """Return the results of a panel's queries for the series with the labels `scope`; a query may return none.

    Raises:
        PrometheusError: Prometheus failed, or refused a query.
    """
    step = step_of(panel, span)
    answers = []
    for line in panel.lines:
        promql = promql_of(panel, line, scope, span)
        template = legend(panel, line)
        for series in _evaluate(client, promql, span, None if is_instant(panel, line) else step):
            named = _filled(template, series.labels)
            answers.append(PanelSeries(line, named, series.labels, series.times, series.values))
    return answers


def _filled(template: str, labels: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: labels.get(found[1], ""), template).strip()


def _evaluate(client: PrometheusClient, promql: str, span: TimeRange, step: float | None) -> list[Series]:
    try:
        if step:
            return client.query_range(promql, span.start, span.end, step)
        found = client.query(promql, span.end)
        return [Series(one.labels, np.array([one.time]), np.array([one.value])) for one in found]
    except NoDataError:
        return []


def by_bucket(answers: Sequence[PanelSeries]) -> tuple[list[str], NDArray[np.float64]]:
    """Return the upper bounds, ascending, and the count of each bucket alone, shape (bounds, times), NaN for a gap."""
    ordered = sorted(answers, key=lambda answer: float(answer.labels["le"]))
    below = np.array([answer.values for answer in ordered])
    counts = np.diff(below, axis=0, prepend=np.zeros((1, below.shape[1])))
    # Rates of buckets that were scraped together differ by rounding only.
    return [answer.labels["le"] for answer in ordered], np.maximum(counts, 0.0)


def to_csv(answers: Sequence[PanelSeries]) -> str:
    """Return CSV with the columns `series`, one per label, `time` (seconds since the epoch), `value`; omits gaps."""
    names = sorted({name for answer in answers for name in answer.labels if name != "__name__"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", *names, "time", "value"])
    for answer in answers:
        labels = [cell(answer.labels.get(name, "")) for name in names]
        for time, value in zip(answer.times.tolist(), answer.values.tolist(), strict=True):
            if not math.isnan(value):
                writer.writerow([answer.line.legend or answer.line.query.name, *labels, f"{time:.3f}", repr(value)])
    return text.getvalue()
