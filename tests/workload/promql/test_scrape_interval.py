"""Windows for another scrape interval: wide enough for what reads them, and the committed ones at a second."""

from __future__ import annotations

import re

import pytest

from workload.errors import UsageError
from workload.paths import asset
from workload.promql.scrape_interval import dashboard_at, parse_interval, rules_at

FILES = sorted(path for kind in ("rules", "alerts") for path in asset(f"prometheus/{kind}").glob("*.yml"))


def test_at_a_second_nothing_changes() -> None:
    """The committed files are the source: a window of theirs that is too short would be changed in every other file."""
    assert all(rules_at(path.read_text(), 1) == path.read_text() for path in FILES)
    assert all(dashboard_at(path.read_text(), 1) == path.read_text() for path in asset("grafana/dashboards").iterdir())


@pytest.mark.parametrize("interval", [5, 15, 30])
def test_no_window_is_shorter_than_its_function_needs(interval: int) -> None:
    """A rate over three scrapes has a gap when one fails, and an alert on it ends."""
    for path in FILES:
        text = rules_at(path.read_text(), interval)
        for function, number, unit in re.findall(r"(\w+)\([^()\[\]]*\[(\d+)([smhd])\]", text):
            least = (2 if function.endswith("_over_time") else 4) * interval
            assert int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] >= least, (path.name, function)
        for name, number, unit in re.findall(r"(\w*rate)(\d+)([sm])\b", text):
            assert int(number) * {"s": 1, "m": 60}[unit] >= 4 * interval, (path.name, name)


@pytest.mark.parametrize(
    ("rule", "at_15_s"),
    [
        ('rate(x_total{job="vllm"}[10s])', 'rate(x_total{job="vllm"}[1m])'),
        ("increase(x_total[40s])", "increase(x_total[1m])"),
        ("increase(x_total[150s])", "increase(x_total[150s])"),
        ("min_over_time(x:sum[10s] offset 20s)", "min_over_time(x:sum[30s] offset 45s)"),
        ("avg_over_time(instance:x:rate10s[30s])", "avg_over_time(instance:x:rate1m[30s])"),
        ("record: instance:x:p95_rate1m", "record: instance:x:p95_rate1m"),
        ("record: instance:x_per_y:ratio_rate10s", "record: instance:x_per_y:ratio_rate1m"),
        ("record: instance:x:ratio_increase5m", "record: instance:x:ratio_increase5m"),
        ("for: 5s", "for: 5s"),
    ],
)
def test_a_window_follows_its_function(rule: str, at_15_s: str) -> None:
    """Names end in their window: one that kept `rate10s` over a minute would say what it is not."""
    assert rules_at(rule, 15) == at_15_s


def test_a_panel_says_over_what_it_is() -> None:
    """Its title and its least step belong to the window; the steps of the fast job and of the timelines stay."""
    panel = '{"title": "Preemptions, over 10 s", "interval": "5s", "expr": "x:rate10s", "fast": {"interval": "100ms"}}'
    assert dashboard_at(panel, 30) == (
        '{"title": "Preemptions, over 2m", "interval": "30s", "expr": "x:rate2m", "fast": {"interval": "100ms"}}'
    )


def test_an_exact_count_has_one_window() -> None:
    """Its parts would else count over two times; a timeline's own heartbeat has nothing to do with scrapes."""
    exact = "max_over_time(x[1m]) - min_over_time(x[1m]) and resets(x[1m]) == 0 or increase(x[1m])"
    panel = f'{{"expr": "{exact}", "timeline": "last_over_time(y[2s])"}}'
    assert dashboard_at(panel, 30) == panel.replace("1m", "2m")


@pytest.mark.parametrize("text", ["", "0s", "31s", "1m", "15", "-1s", "1.5s"])
def test_an_interval_that_the_alerts_cannot_follow_is_refused(text: str) -> None:
    """Prometheus forgets a sample after five minutes, and DiskWritesFailing needs four intervals and a page."""
    with pytest.raises(UsageError, match="from 1s to 30s"):
        parse_interval(text)
    assert parse_interval("15s") == 15
