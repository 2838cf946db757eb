"""A dashboard's queries, asked: what fails, finds nothing, lacks a label of its legend, or is told in a wrong unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.grafana.expansion import expand, seconds
from tests.grafana.lint import panels
from workload.services.prometheus import NoDataError, PrometheusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workload.services.prometheus import PrometheusClient

    Json = dict[str, Any]

STEP_SECONDS = 1.0
DESCENDING = 2
SCRAPE = "1s"
# Shares of several questions in flight add up; a hundred times a share is a percentage.
MOST_SHARE = 10
LEGEND_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
VARIABLE = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")
RESULT = re.compile(r"query_result\((?P<query>.+)\)")


@dataclass(frozen=True)
class Shown:
    """The time that a dashboard shows, in seconds since the epoch."""

    start: float
    end: float


def failures(dashboard: Json, client: PrometheusClient, shown: Shown) -> list[str]:
    """Return what goes wrong when every query of a dashboard is asked, as `where: what`."""
    found = [failure for panel in panels(dashboard) for failure in of_panel(panel, client, shown)]
    return [*found, *_of_variables(dashboard, client, shown), *_of_annotations(dashboard, client, shown)]


def of_panel(panel: Json, client: PrometheusClient, shown: Shown) -> Iterator[str]:
    """Yield what goes wrong when the queries of a panel are asked."""
    named: list[str] = []
    for target in panel["targets"]:
        where = f"{panel['title']} {target['refId']}"
        try:
            found = ask(target, client, shown)
        except PrometheusError as error:
            yield f"{where}: {error}"
            continue
        values = np.concatenate([values for _, values in found])
        wanted = set(LEGEND_LABEL.findall(target.get("legendFormat", "")))
        if np.isnan(values).all():
            yield f"{where}: no number"
        if missing := {label for label in wanted for labels, _ in found if not labels.get(label)}:
            yield f"{where}: no label {sorted(missing)}"
        legend = target.get("legendFormat", "")
        named += [LEGEND_LABEL.sub(lambda label, of=labels: of.get(label[1], ""), legend) for labels, _ in found]
        if panel["fieldConfig"]["defaults"].get("unit") == "percentunit" and np.nanmax(values) > MOST_SHARE:
            yield f"{where}: a share of {np.nanmax(values)}"
        if panel["fieldConfig"]["defaults"].get("unit") == "percent" and np.nanmax(values) <= 1:
            yield f"{where}: a share as percent"
    if panel["type"] in {"timeseries", "bargauge"} and len(set(named)) < len(named):
        yield f"{panel['title']}: two series of one name: {sorted(named)}"


def ask(target: Json, client: PrometheusClient, shown: Shown) -> list[tuple[Mapping[str, str], np.ndarray]]:
    """Return labels and values of what a target finds in the time shown.

    Raises:
        NoDataError: it finds nothing.
        PrometheusError: Prometheus refused the query.
    """
    promql = expand(target["expr"], STEP_SECONDS, seconds(target.get("interval", SCRAPE)), shown.end - shown.start)
    if target.get("instant"):
        return [(sample.labels, np.array([sample.value])) for sample in client.query(promql, shown.end)]
    return [
        (series.labels, series.values) for series in client.query_range(promql, shown.start, shown.end, STEP_SECONDS)
    ]


def choices(variable: Json, client: PrometheusClient, shown: Shown) -> list[tuple[str, str]]:
    """Return the values of a variable of the type query, each with its text, in the order in which Grafana has them."""
    by_label, by_result = VARIABLE.fullmatch(variable["query"]), RESULT.fullmatch(variable["query"])
    asked = by_label["selector"] if by_label else by_result["query"] if by_result else variable["query"]
    try:
        samples = client.query(expand(asked, shown=shown.end - shown.start), shown.end)
    except NoDataError:
        return []
    if by_label:
        values = {value for sample in samples if (value := sample.labels.get(by_label["label"]))}
        found = {value: value for value in values}
    else:
        texts = (",".join(f'{name}="{value}"' for name, value in sample.labels.items()) for sample in samples)
        pattern = re.compile(variable["regex"].strip("/").replace("(?<", "(?P<"))
        found = {match["value"]: match["text"] for text in texts if (match := pattern.search(f"{{{text}}}"))}
    return sorted(found.items(), key=lambda choice: choice[1], reverse=variable.get("sort") == DESCENDING)


def _of_variables(dashboard: Json, client: PrometheusClient, shown: Shown) -> Iterator[str]:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and not choices(variable, client, shown):
            yield f"variable {variable['name']}: no value"


def _of_annotations(dashboard: Json, client: PrometheusClient, shown: Shown) -> Iterator[str]:
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation["target"]:
            wanted = set(LEGEND_LABEL.findall(annotation["titleFormat"]))
            try:
                found = ask(annotation["target"], client, shown)
            except PrometheusError as error:
                yield f"annotation {annotation['name']}: {error}"
                continue
            if any(not labels.get(label) for labels, _ in found for label in wanted):
                yield f"annotation {annotation['name']}: no label {sorted(wanted)}"
