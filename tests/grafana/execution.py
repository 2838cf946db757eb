"""A dashboard's queries, asked: what fails, finds nothing, lacks a label of its legend, or is told in a wrong unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.grafana.expansion import expand, seconds
from tests.grafana.lint import panels
from tests.grafana.reference import END, SHOWN_FROM
from workload.prometheus import NoDataError, PrometheusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workload.prometheus import PrometheusClient

    Json = dict[str, Any]

STEP_SECONDS = 1.0
SCRAPE = "1s"
LEGEND_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
VARIABLE = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")


def failures(dashboard: Json, client: PrometheusClient) -> list[str]:
    """Return what goes wrong when every query of a dashboard is asked, as `where: what`."""
    return [*_of_panels(dashboard, client), *_of_variables(dashboard, client), *_of_annotations(dashboard, client)]


def _of_panels(dashboard: Json, client: PrometheusClient) -> Iterator[str]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            where = f"{panel['title']} {target['refId']}"
            try:
                found = ask(target, client)
            except PrometheusError as error:
                yield f"{where}: {error}"
                continue
            values = np.concatenate([values for _, values in found])
            wanted = set(LEGEND_LABEL.findall(target.get("legendFormat", "")))
            if np.isnan(values).all():
                yield f"{where}: no number"
            if missing := {label for label in wanted for labels, _ in found if not labels.get(label)}:
                yield f"{where}: no label {sorted(missing)}"
            if panel["fieldConfig"]["defaults"].get("unit") == "percent" and np.nanmax(values) <= 1:
                yield f"{where}: a share as percent"


def ask(target: Json, client: PrometheusClient) -> list[tuple[Mapping[str, str], np.ndarray]]:
    """Return labels and values of what a target finds over the recording.

    Raises:
        NoDataError: it finds nothing.
        PrometheusError: Prometheus refused the query.
    """
    promql = expand(target["expr"], STEP_SECONDS, seconds(target.get("interval", SCRAPE)), END - SHOWN_FROM)
    if target.get("instant"):
        return [(sample.labels, np.array([sample.value])) for sample in client.query(promql, END)]
    return [(series.labels, series.values) for series in client.query_range(promql, SHOWN_FROM, END, STEP_SECONDS)]


def _of_variables(dashboard: Json, client: PrometheusClient) -> Iterator[str]:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = VARIABLE.fullmatch(variable["query"])
            assert found, variable["query"]
            try:
                samples = client.query(expand(found["selector"]), END)
            except NoDataError:
                samples = []
            if not any(sample.labels.get(found["label"]) for sample in samples):
                yield f"variable {variable['name']}: no value"


def _of_annotations(dashboard: Json, client: PrometheusClient) -> Iterator[str]:
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation["target"]:
            wanted = set(LEGEND_LABEL.findall(annotation["titleFormat"]))
            try:
                found = ask(annotation["target"], client)
            except PrometheusError as error:
                yield f"annotation {annotation['name']}: {error}"
                continue
            if any(not labels.get(label) for labels, _ in found for label in wanted):
                yield f"annotation {annotation['name']}: no label {sorted(wanted)}"
