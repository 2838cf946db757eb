"""Grafana's variables, filled in as its Prometheus backend does it."""

from __future__ import annotations

import re

from workload.promql.query import rate_interval

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
BUILT_IN = ("__rate_interval", "__interval", "__range", "__url_time_range", "__data", "__field")
# Of these one is chosen.
CHOSEN = {"job": "vllm", "baseline": "prefix-off"}
VARIABLE = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")


def seconds(duration: str) -> float:
    """Return a duration of one unit in seconds."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h)", duration)
    assert found, duration
    return int(found[1]) * SECONDS[found[2]]


def expand(text: str, step: float = 1.0, scrape: float = 1.0, shown: float = 60.0, value: str = ".*") -> str:
    """Return a query with Grafana's own variables computed from seconds, and all others set to `value`."""
    filled = {
        "__rate_interval": rate_interval(step, scrape),
        "__interval": f"{round(step * 1000)}ms",
        "__range": f"{round(shown)}s",
    } | CHOSEN
    return VARIABLE.sub(lambda found: filled.get(found[1], value), text)


def variables(text: str) -> set[str]:
    """Return the names of the dashboard's variables in a text."""
    return set(VARIABLE.findall(text)) - set(BUILT_IN)
