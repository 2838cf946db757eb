"""A named PromQL query that serves Grafana, with its variables, and figures, with a run's labels, alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.selectors import label_matcher

if TYPE_CHECKING:
    from collections.abc import Mapping

SCOPE = "$scope"
RATE_INTERVAL = "$__rate_interval"
GRAFANA_SCOPE = ("run", "experiment", "arm")


@dataclass(frozen=True)
class Query:
    """A query by name.

    Attributes:
        name: unique among all queries; the key in the golden file and in a run's bundle.
        expression: PromQL in which `$scope` stands for the label matchers of a run, and `$__rate_interval` for the
            window of a rate, as in Grafana.
    """

    name: str
    expression: str

    def scoped(self, labels: Mapping[str, str], step_seconds: float, scrape_seconds: float = 1.0) -> str:
        """Return the PromQL for the series that carry `labels`, drawn at `step_seconds`."""
        matchers = ",".join(label_matcher(name, value) for name, value in labels.items())
        return self._fill(matchers, rate_interval(step_seconds, scrape_seconds))

    def grafana(self) -> str:
        """Return the PromQL with Grafana's variables as matchers."""
        return self._fill(",".join(f'{name}=~"${name}"' for name in GRAFANA_SCOPE), RATE_INTERVAL)

    def _fill(self, matchers: str, interval: str) -> str:
        return re.sub(rf"{re.escape(SCOPE)}\b", lambda _: matchers, self.expression.replace(RATE_INTERVAL, interval))


def rate_interval(step_seconds: float, scrape_seconds: float) -> str:
    """Return Grafana's `$__rate_interval` as a PromQL duration: max(step + scrape, 4 x scrape)."""
    seconds = max(step_seconds + scrape_seconds, 4 * scrape_seconds)
    return f"{round(seconds * 1000)}ms"
