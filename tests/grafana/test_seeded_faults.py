"""A test of the tests: each fault that a dashboard may have is seeded, and the layer that must see it does."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.contract import breaches
from tests.grafana.execution import failures
from tests.grafana.lint import lint, panels
from tests.grafana.schema import violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.grafana.execution import Shown
    from workload.services.prometheus import PrometheusClient

    Json = dict[str, Any]
    Known = dict[str, dict[str, set[str]]]
    Fault = Callable[[Json], None]


def first(dashboard: Json, kind: str) -> Json:
    """Return the first panel of a kind."""
    return next(panel for panel in panels(dashboard) if panel["type"] == kind)


def asks(dashboard: Json, text: str) -> Json:
    """Return the first target whose query holds a text."""
    found = (target for panel in panels(dashboard) for target in panel["targets"] if text in target["expr"])
    return next(found)


def replaced(old: str, new: str) -> Fault:
    """Return the fault of a text replaced in the first query that holds it."""

    def seed(dashboard: Json) -> None:
        target = asks(dashboard, old)
        target["expr"] = target["expr"].replace(old, new)

    return seed


def option(kind: str, name: str, value: Any) -> Fault:
    """Return the fault of a panel's option set."""
    return lambda dashboard: first(dashboard, kind)["options"].update({name: value})


def default(kind: str, name: str, value: Any) -> Fault:
    """Return the fault of a default of a panel's fields set."""
    return lambda dashboard: first(dashboard, kind)["fieldConfig"]["defaults"].update({name: value})


def without_base(dashboard: Json) -> None:
    """Take the base away from a panel's thresholds."""
    del first(dashboard, "stat")["fieldConfig"]["defaults"]["thresholds"]["steps"][0]


def moved(dashboard: Json) -> None:
    """Put a panel over its neighbour."""
    first(dashboard, "stat")["gridPos"]["w"] += 1


def renumbered(dashboard: Json) -> None:
    """Give two panels one id."""
    dashboard["panels"][1]["id"] = dashboard["panels"][2]["id"]


SCHEMA_FAULTS: dict[str, Fault] = {
    "panel type typo": lambda dashboard: first(dashboard, "timeseries").update(type="timeserie"),
    "option typo": option("stat", "colourMode", "value"),
    "enum typo": option("stat", "colorMode", "valeu"),
    "custom field typo": lambda dashboard: first(dashboard, "timeseries")["fieldConfig"]["defaults"]["custom"].update(
        lineWidht=2
    ),
    "wrong type": default("timeseries", "decimals", "two"),
}
LINT_FAULTS: dict[str, tuple[Fault, str]] = {
    "unit typo": (default("timeseries", "unit", "percentunits"), "panel-units-rule"),
    "PromQL typo": (replaced("sum by (", "sumby ("), "target-promql-rule"),
    "unbalanced PromQL": (replaced("sum by (", "sum by (("), "target-promql-rule"),
    "undefined variable in a query": (replaced('"$run"', '"$rnu"'), "variables"),
    "undefined variable in a link": (
        lambda dashboard: first(dashboard, "stat").update(
            links=[{"title": "more", "url": "/d/hop2rag-overview?var-run=$rnu"}]
        ),
        "variables",
    ),
    "wrong datasource uid": (
        lambda dashboard: first(dashboard, "stat")["datasource"].update(uid="prom"),
        "template-datasource-rule",
    ),
    "counter without rate": (
        lambda dashboard: asks(dashboard, "rate(hop2rag_busy_seconds").update(
            expr="sum(hop2rag_busy_seconds_total{phase!='warmup'})"
        ),
        "target-counter-agg-rule",
    ),
    "fixed window": (replaced("[$__rate_interval]", "[5m]"), "target-rate-interval-rule"),
    "duplicate id": (renumbered, "unique-ids"),
    "grid overlap": (moved, "grid"),
    "threshold without base": (without_base, "threshold-base"),
    "bad time range": (lambda dashboard: dashboard["time"].update({"from": "now+15m"}), "time-range"),
    "heatmap target not in heatmap format": (
        lambda dashboard: first(dashboard, "heatmap")["targets"][0].update(format="time_series"),
        "heatmap-format",
    ),
    "warm-up compared": (replaced(',phase!="warmup"', ""), "warm-up"),
    "timeline read bare": (
        lambda dashboard: asks(dashboard, "timeline").update(expr="hop2rag_timeline_node_active{phase!='warmup'}"),
        "timeline",
    ),
}
CONTRACT_FAULTS: dict[str, Fault] = {
    "metric renamed": replaced("hop2rag_busy_seconds_total", "hop2rag_active_seconds_total"),
    "label renamed": replaced("by (arm, node)", "by (arm, graph_node)"),
    "matcher that never matches": replaced('job="vllm-fast"', 'job="vllm-quick"'),
}
EXECUTION_FAULTS: dict[str, tuple[Fault, str]] = {
    "metric renamed": (CONTRACT_FAULTS["metric renamed"], "no data"),
    "label renamed": (replaced("by (arm, activity)", "by (arm, action)"), "no label"),
    "matcher that never matches": (replaced('outcome="ok"', 'outcome=~"okay.*"'), "no data"),
    "percent against percentunit": (default("timeseries", "unit", "percent"), "a share as percent"),
    "PromQL typo": (replaced("sum by (", "sumby ("), "parse error"),
}
NAMED_IN_DESIGN = 22


def seeded(dashboards: dict[str, Json], fault: Fault) -> Json:
    """Return a copy of the overview with a fault in it."""
    dashboard = deepcopy(dashboards["overview"])
    fault(dashboard)
    assert dashboard != dashboards["overview"]
    return dashboard


def test_the_table_is_complete() -> None:
    """Every fault of the design is seeded once at least, and more where a layer below sees it too."""
    names = {*SCHEMA_FAULTS, *LINT_FAULTS, *CONTRACT_FAULTS, *EXECUTION_FAULTS}
    assert len(names - {"timeline read bare", "warm-up compared"}) == NAMED_IN_DESIGN


@pytest.mark.parametrize("name", SCHEMA_FAULTS)
def test_schema_sees(name: str, dashboards: dict[str, Json]) -> None:
    """Grafana would ignore what it does not know and show something else."""
    assert len(violations(seeded(dashboards, SCHEMA_FAULTS[name]))) == 1


@pytest.mark.parametrize("name", LINT_FAULTS)
def test_lint_sees(name: str, dashboards: dict[str, Json]) -> None:
    """And under the rule that is meant for it, so that the message helps."""
    fault, rule = LINT_FAULTS[name]
    found = lint(seeded(dashboards, fault))
    assert found
    assert {each.partition(":")[0] for each in found} == {rule}


@pytest.mark.parametrize("name", CONTRACT_FAULTS)
def test_contract_sees(name: str, dashboards: dict[str, Json], known: Known) -> None:
    """What nothing exposes is found without a Prometheus."""
    assert breaches(seeded(dashboards, CONTRACT_FAULTS[name]), known)


@pytest.mark.prometheus
@pytest.mark.parametrize("name", EXECUTION_FAULTS)
def test_execution_sees(name: str, dashboards: dict[str, Json], filled: tuple[PrometheusClient, Shown]) -> None:
    """What only an answer shows: emptiness, a label that is not there, a share told as a hundred times less."""
    fault, message = EXECUTION_FAULTS[name]
    found = failures(seeded(dashboards, fault), *filled)
    assert found
    assert all(message.lower() in each.lower() for each in found)
