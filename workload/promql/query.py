"""A named PromQL query that serves Grafana, with its variables, and figures, with a run's labels, alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.promql.selectors import NOT_WARM_UP, label_matcher

if TYPE_CHECKING:
    from collections.abc import Mapping

# What was measured, all that was watched, warm-up included, and what was measured of the arm to compare with.
SCOPE, WATCHED, BASELINE = "$scope", "$watched", "$baseline"
BASELINE_NAME = "baseline"
PLACE = re.compile(rf"(?:{re.escape(SCOPE)}|{re.escape(WATCHED)}|{re.escape(BASELINE)})\b")
RATE_INTERVAL = "$__rate_interval"
RANGE = "$__range"
# The end of a recorded name: the window of its rate.
RECORDED_WINDOW = re.compile(r":\w*rate(\d+)([sm])\b")
UNITS = {"s": 1, "m": 60}
GRAFANA_SCOPE = ("run", "experiment", "arm")
# Seconds between two samples of the jobs that are scraped more often than every second.
FINER_JOBS = {'-timeline"': 0.01, '-fast"': 0.1}
# The engine's job in Grafana is a variable, for a Prometheus that is not ours.
ENGINE_JOB, JOB_VARIABLE = 'job="vllm"', 'job=~"$job"'
# What tells engines apart; series of the agent and of the exporter have an instance of their own, and no model.
ENGINE_SERIES = ("vllm:", "instance:vllm_")
ENGINE_SCOPE = ("model_name", "instance")
# What is of one GPU each.
GPU_SERIES = re.compile(r"nvml_(?!process_)|hop2rag_exporter_sample")
WITHOUT_MODEL_NAME = ("vllm:cache_config_info", "instance:vllm_prefix_caching_enabled:min")


@dataclass(frozen=True)
class Query:
    """A query by name.

    Attributes:
        name: unique among all queries; the key in the golden file and in a run's bundle.
        expression: PromQL in which `$scope` stands for the label matchers of a run without its warm-up, `$watched` for
            those with it, `$baseline` for those of the arm to compare with, and, as in Grafana, `$__rate_interval` for
            the window of a rate and `$__range` for all that is looked at.
    """

    name: str
    expression: str

    @property
    def scrape_seconds(self) -> float:
        """The time between two samples of the fastest job that is read."""
        return next((seconds for part, seconds in FINER_JOBS.items() if part in self.expression), 1.0)

    def reach_seconds(self, step_seconds: float) -> float:
        """Return how far back a value looks: over the window of a rate, else to the sample before it."""
        windows: list[float] = [int(length) * UNITS[unit] for length, unit in RECORDED_WINDOW.findall(self.expression)]
        if RATE_INTERVAL in self.expression:
            windows.append(rate_interval_seconds(step_seconds, self.scrape_seconds))
        return max(windows, default=self.scrape_seconds)

    def scoped(
        self,
        labels: Mapping[str, str],
        step_seconds: float,
        scrape_seconds: float | None = None,
        range_seconds: float = 3600.0,
    ) -> str:
        """Return the PromQL for the series that carry `labels`, drawn at `step_seconds`.

        As in Grafana, `baseline` is no label but the arm to compare with.
        """
        chosen = {name: value for name, value in labels.items() if name != BASELINE_NAME}
        compared = chosen | ({"arm": labels[BASELINE_NAME]} if BASELINE_NAME in labels else {})
        window = rate_interval(step_seconds, scrape_seconds or self.scrape_seconds)
        filled = self.expression.replace(RATE_INTERVAL, window)
        filled = filled.replace(RANGE, f"{round(range_seconds * 1000)}ms")
        places = {SCOPE: chosen, WATCHED: chosen, BASELINE: compared}
        matchers = {place: [label_matcher(*each) for each in found.items()] for place, found in places.items()}
        return PLACE.sub(lambda found: ",".join([*matchers[found[0]], *_phases(found[0])]), filled)

    def grafana(self) -> str:
        """Return the PromQL with Grafana's variables as matchers."""
        return re.sub(
            rf"([\w:]+)\{{([^{{}}]*)({PLACE.pattern})",
            lambda found: f"{found[1]}{{{found[2]}{grafana_scope(found[1], found[3])}",
            self.expression.replace(ENGINE_JOB, JOB_VARIABLE),
        )


def grafana_scope(metric: str, place: str = SCOPE) -> str:
    """Return the matchers that hold a metric to what is chosen in the dashboard's variables."""
    engine = ENGINE_SCOPE if metric.startswith(ENGINE_SERIES) else ()
    gpu = ("gpu",) if GPU_SERIES.match(metric) else ()
    own = (name for name in (*engine, *gpu) if name != "model_name" or metric not in WITHOUT_MODEL_NAME)
    names = (*own, *GRAFANA_SCOPE)
    # an alert on what belongs to no run, such as a disk, is everybody's
    or_none = "|" if metric == "ALERTS" else ""
    matchers = {name: f'{name}=~"${name}{or_none}"' for name in names}
    if place == BASELINE:
        matchers["arm"] = f'arm="{BASELINE}"'
    return ",".join([*matchers.values(), *_phases(place)])


def _phases(place: str) -> tuple[str, ...]:
    return () if place == WATCHED else (NOT_WARM_UP,)


def rate_interval(step_seconds: float, scrape_seconds: float) -> str:
    """Return Grafana's `$__rate_interval` as a PromQL duration."""
    return f"{round(rate_interval_seconds(step_seconds, scrape_seconds) * 1000)}ms"


def rate_interval_seconds(step_seconds: float, scrape_seconds: float) -> float:
    """Return Grafana's `$__rate_interval`: max(step + scrape, 4 x scrape)."""
    return max(step_seconds + scrape_seconds, 4 * scrape_seconds)
