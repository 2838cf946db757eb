"""What a panel finds is asked as Grafana asks it, and kept as data that any program reads."""

from __future__ import annotations

import csv

import numpy as np

from tests.stubs.panels import BARS, LINES, SILENT, SPAN, STATES, KnownSeries, panel
from workload.export.panel_series import TimeRange, query_panel, step_of, to_csv


def test_a_panel_is_asked_for_one_run_over_the_whole_time() -> None:
    """The picture and the dashboard must not differ by a window or a step."""
    client = KnownSeries()
    query_panel(LINES, client, {"run": "r1"}, SPAN)
    query_panel(BARS, client, {"run": "r1"}, SPAN)
    assert client.asked == [
        'sum by (arm, node) (lines{run="r1",phase!="warmup"})',
        'sum by (node) (increase(bars{run="r1",phase!="warmup"}[60000ms]))',
    ]


def test_the_step_is_as_fine_as_the_picture_or_the_samples() -> None:
    """A minute of samples a second has no more than sixty points; what is sampled every 10 ms has a thousand."""
    timeline = panel("state-timeline", 'last_over_time(x{job="workload-timeline",$scope}[2s])')
    assert (step_of(LINES, SPAN), step_of(timeline, SPAN)) == (1.0, 0.06)
    assert step_of(LINES, TimeRange(0.0, 3600.0)) == 3.6


def test_series_are_distinguished_by_their_arm_and_label() -> None:
    """Two arms under one name would be one line that jumps."""
    found = query_panel(LINES, KnownSeries(), {"run": "r1"}, SPAN)
    assert [answer.legend for answer in found] == ["prefix-off decide", "prefix-on decide"]
    assert found[0].last == 3.0
    assert np.isnan(found[0].values[0])


def test_what_is_absent_is_nothing() -> None:
    """Not a zero, and no error: a host without a GPU has no such series."""
    assert query_panel(SILENT, KnownSeries(), {"run": "r1"}, SPAN) == []
    assert to_csv([]) == "series,time,value\n"


def test_csv_has_a_row_for_each_number() -> None:
    """A gap has no row; a label with a comma or a quote is one cell."""
    client = KnownSeries()
    client.ranges["states"][0].labels["node"] = 'a,"b'  # type: ignore[index]
    rows = list(csv.DictReader(to_csv(query_panel(STATES, client, {"run": "r1"}, SPAN)).splitlines()))
    assert rows[1] == {"series": "{{node}}", "node": 'a,"b', "time": "1700000001.000", "value": "1.0"}
    assert len(rows) == 61
    assert len(to_csv(query_panel(LINES, client, {"run": "r1"}, SPAN)).splitlines()) == 1 + 2 * 31
