"""Panels of every kind with their answers, as a dashboard asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workload.dashboards.catalogue import Dashboard, Row
from workload.export.panel_series import TimeRange
from workload.panels.panel import Line, Panel
from workload.promql.query import Query
from workload.services.prometheus import NoDataError, PrometheusClient, Sample, Series
from workload.services.prometheus_server import loopback_session

if TYPE_CHECKING:
    from workload.panels.panel import Kind, Unit

SPAN = TimeRange(1_700_000_000.0, 1_700_000_060.0)
ARMS = ("prefix-off", "prefix-on")


def panel(kind: Kind, expression: str, legend: str = "{{node}}", unit: Unit = "short", **more: object) -> Panel:
    """Return a panel of one query, named after its kind."""
    return Panel(kind, f"A {kind}", "why", unit, (Line(Query(kind, expression), legend),), kind=kind, **more)  # type: ignore[arg-type]


LINES = panel("timeseries", "sum by (arm, node) (lines{$scope})")
STAT = panel("stat", "max by (arm) (state{$scope})", "", "none", words=((0.0, "caching off"), (1.0, "caching on")))
BARS = panel("bargauge", "sum by (node) (increase(bars{$scope}[$__range]))", unit="s")
HEAT = panel("heatmap", "sum by (le) (increase(heat_bucket{$scope}[$__rate_interval]))", "{{le}}", "s")
STATES = panel("state-timeline", "max by (node) (states{$scope})", words=((0.0, "down"), (1.0, "up")))
SILENT = Panel(
    "silent", "A silent one", "why", "short", (Line(Query("silent", "silent{$scope}")),), empty="no GPU", kind="stat"
)
TABLE = Panel(
    "table",
    "A table",
    "why",
    "s",
    (
        Line(Query("one", "sum by (arm) (increase(one{$scope}[$__range]))"), "calls", "short"),
        Line(Query("two", "sum by (arm) (increase(two{$scope}[$__range]))"), "one call"),
    ),
    kind="table",
)
KINDS = (LINES, STAT, BARS, HEAT, STATES, TABLE)
DASHBOARD = Dashboard("overview", "Overview", "what", (Row("first", KINDS[:3]), Row("second", (*KINDS[3:], SILENT))))


class KnownSeries(PrometheusClient):
    """A Prometheus that knows a few series by the metric that a query selects first."""

    def __init__(self) -> None:
        super().__init__("http://prometheus.invalid", loopback_session())
        self.asked: list[str] = []
        times = np.arange(SPAN.start, SPAN.end + 1)
        wave = np.where(times < SPAN.start + 30, np.nan, times % 7)
        self.ranges = {
            "lines": [Series({"arm": arm, "node": "decide"}, times, wave) for arm in ARMS],
            "heat_bucket": [
                Series({"le": le}, times, np.full(61, count))
                for le, count in (("+Inf", 9.0), ("0.5", 2.0), ("1.0", 5.0))
            ],
            "states": [Series({"node": "decide"}, times, times % 2)],
        }
        self.instants = {
            "state": [Sample({"arm": arm}, SPAN.end, float(place)) for place, arm in enumerate(ARMS)],
            "bars": [Sample({"node": "decide"}, SPAN.end, 1.5), Sample({"node": "retrieve"}, SPAN.end, 0.25)],
            "one": [Sample({"arm": arm}, SPAN.end, 12.0) for arm in ARMS],
            "two": [Sample({"arm": "prefix-on"}, SPAN.end, 0.125)],
        }

    def query_range(self, promql: str, start: float, end: float, step: float) -> list[Series]:  # noqa: ARG002
        """Return a series by the first metric that is named."""
        self.asked.append(promql)
        for name, found in self.ranges.items():
            if f"{name}{{" in promql:
                return found
        raise NoDataError(promql, (start, end))

    def query(self, promql: str, at: float | None = None) -> list[Sample]:  # noqa: ARG002
        """Return samples by the first metric that is named."""
        self.asked.append(promql)
        for name, found in self.instants.items():
            if f"{name}{{" in promql:
                return found
        raise NoDataError(promql, (SPAN.start, SPAN.end))
