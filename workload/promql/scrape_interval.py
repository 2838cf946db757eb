"""The windows of rules and panels for another scrape interval than the second that the committed files are written for.

A rate needs two samples, and four intervals have them even if a scrape fails. Other functions need one sample, so two
intervals. An offset of three stays shorter than the rate that it is compared with. A window that is long enough stays.
Recorded names end in their window and change with it: `rate10s` is `rate1m` at 15 s.
"""

from __future__ import annotations

import re

from workload.errors import UsageError

DURATION = r"(\d+)([sm])\b"
RATE_INTERVALS = 4
# The least number of intervals of a window, and the window with what comes before it.
RATE = RATE_INTERVALS, re.compile(rf"(\b(?:rate|increase|deriv)\([^()\[\]]*\[|[:_]rate){DURATION}")
SAMPLES = 2, re.compile(rf"(_over_time\([^()\[\]]*\[){DURATION}")
OFFSET = 3, re.compile(rf"(\boffset ){DURATION}")
# What counts exactly, in panels: beside the `increase()` that it falls back on it has the same window.
COUNT = RATE_INTERVALS, re.compile(rf"(\b(?:resets|(?:min|max)_over_time)\([^()\[\]]*\[){DURATION}")
PANEL_STEP = 1, re.compile(rf'("interval": "){DURATION}')
PANEL_TEXT = re.compile(r"\bover (?:10 s|a minute)\b")


def parse_interval(text: str) -> int:
    """Return a scrape interval such as `15s` in seconds.

    Raises:
        UsageError: it is not from 1s to 30s.
    """
    if not re.fullmatch(r"([1-9]|[12]\d|30)s", text):
        raise UsageError(f"The scrape interval {text!r} is not from 1s to 30s.", "Write it as 15s.")
    return int(text[:-1])


def rules_at(rules: str, interval_s: int) -> str:
    """Return the text of a rule file with windows for targets that are scraped every `interval_s` seconds."""
    for window in (RATE, SAMPLES, OFFSET):
        rules = _longer(rules, interval_s, *window)
    return rules


def dashboard_at(dashboard: str, interval_s: int) -> str:
    """Return a dashboard's JSON that reads the rules of that scrape interval: names, rates, texts and least steps."""
    for window in (RATE, COUNT, PANEL_STEP):
        dashboard = _longer(dashboard, interval_s, *window)
    seconds = RATE_INTERVALS * interval_s
    return dashboard if interval_s == 1 else PANEL_TEXT.sub(f"over {_written(seconds)}", dashboard)


def _longer(text: str, interval_s: int, intervals: int, window: re.Pattern[str]) -> str:
    def longer(found: re.Match[str]) -> str:
        is_long = int(found[2]) * {"s": 1, "m": 60}[found[3]] >= intervals * interval_s
        return found[0] if is_long else found[1] + _written(intervals * interval_s)

    return window.sub(longer, text)


def _written(seconds: int) -> str:
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"
