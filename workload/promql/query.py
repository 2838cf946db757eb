"""A named PromQL query that serves Grafana, with its variables, and figures, with a run's labels, alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.promql.selectors import NOT_WARM_UP, label_matcher

if TYPE_CHECKING:
    from collections.abc import Mapping

# What was measured, and all that was watched, warm-up included.
SCOPE, WATCHED = "$scope", "$watched"
PLACE = re.compile(rf"(?:{re.escape(SCOPE)}|{re.escape(WATCHED)})\b")
RATE_INTERVAL = "$__rate_interval"
RANGE = "$__range"
GRAFANA_SCOPE = ("run", "experiment", "arm")
# What tells engines apart; series of the agent and of the exporter have an instance of their own, and no model.
ENGINE_SERIES = ("vllm:", "instance:vllm_")
ENGINE_SCOPE = ("model_name", "instance")
WITHOUT_MODEL_NAME = ("vllm:cache_config_info", "instance:vllm_prefix_caching_enabled:min")


@dataclass(frozen=True)
class Query:
    """A query by name.

    Attributes:
        name: unique among all queries; the key in the golden file and in a run's bundle.
        expression: PromQL in which `$scope` stands for the label matchers of a run without its warm-up, `$watched` for
            those with it, and, as in Grafana, `$__rate_interval` for the window of a rate and `$__range` for all that
            is looked at.
    """

    name: str
    expression: str

    def scoped(
        self,
        labels: Mapping[str, str],
        step_seconds: float,
        scrape_seconds: float = 1.0,
        range_seconds: float = 3600.0,
    ) -> str:
        """Return the PromQL for the series that carry `labels`, drawn at `step_seconds`."""
        matchers = [label_matcher(name, value) for name, value in labels.items()]
        filled = self.expression.replace(RATE_INTERVAL, rate_interval(step_seconds, scrape_seconds))
        filled = filled.replace(RANGE, f"{round(range_seconds * 1000)}ms")
        return PLACE.sub(lambda found: ",".join([*matchers, *_phases(found[0])]), filled)

    def grafana(self) -> str:
        """Return the PromQL with Grafana's variables as matchers."""
        return re.sub(
            rf"([\w:]+)\{{([^{{}}]*)({PLACE.pattern})",
            lambda found: f"{found[1]}{{{found[2]}{grafana_scope(found[1], found[3])}",
            self.expression,
        )


def grafana_scope(metric: str, place: str = SCOPE) -> str:
    """Return the matchers that hold a metric to what is chosen in the dashboard's variables."""
    engine = ENGINE_SCOPE if metric.startswith(ENGINE_SERIES) else ()
    names = (*(name for name in engine if name != "model_name" or metric not in WITHOUT_MODEL_NAME), *GRAFANA_SCOPE)
    return ",".join([*(f'{name}=~"${name}"' for name in names), *_phases(place)])


def _phases(place: str) -> tuple[str, ...]:
    return (NOT_WARM_UP,) if place == SCOPE else ()


def rate_interval(step_seconds: float, scrape_seconds: float) -> str:
    """Return Grafana's `$__rate_interval` as a PromQL duration: max(step + scrape, 4 x scrape)."""
    seconds = max(step_seconds + scrape_seconds, 4 * scrape_seconds)
    return f"{round(seconds * 1000)}ms"
