"""Rules on parts of a dashboard that must agree with each other, with the palette and with the alerts."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from tests.grafana.lint import WARM_UP_TOO, panels
from workload.agent.state import NODES
from workload.panels.colours import ARM_COLOURS
from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Json = dict[str, Any]
    Rule = Callable[[Json], Iterator[str]]

DASHBOARD_LINK = re.compile(r"/d/hop2rag-")
OF_ENGINE = {"model_name", "instance"}
READ = {"run", "experiment", "arm", "gpu"} | OF_ENGINE
CALCULATIONS = ["max", "mean"]
# The means of parts add up, their maxima do not.
CALCULATIONS_OF_PARTS = ["mean"]
VALUES = {"{{node}}": NODES, "{{hop}}": ("1", "2", "3", "4")}
PAIRED_ARM = re.compile(r"/\^\(prefix-on\|high\) /")
ARM_NAME = re.compile(r"/\^(.+)\( \|\$\)/")
BY_ARM = re.compile(r"\bby \([^)]*\barm\b")
SAYS_SHARE = re.compile(r"\bshare of\b", re.IGNORECASE)


def data_links(panel: Json) -> list[Json]:
    """Return the links of a panel's values and columns."""
    overrides = [each for part in panel["fieldConfig"]["overrides"] for each in part["properties"]]
    of_columns = [link for each in overrides if each["id"] == "links" for link in each["value"]]
    return [*panel["fieldConfig"]["defaults"].get("links", ()), *of_columns]


def links_keep_time(dashboard: Json) -> Iterator[str]:
    """Yield links to dashboards that lose the time shown: their reader lands in the last quarter of an hour."""
    for panel in panels(dashboard):
        for link in [*panel.get("links", ()), *data_links(panel)]:
            if DASHBOARD_LINK.match(link["url"]) and "${__url_time_range}" not in link["url"]:
                yield f"{panel['title']}: {link['url']}"


def arms_lead_to_their_run(dashboard: Json) -> Iterator[str]:
    """Yield panels by arm from which no click leads to the table with the arm's run, or to that of every run."""
    for panel in panels(dashboard):
        if any(BY_ARM.search(target["expr"]) for target in panel["targets"]):
            ways = [link["url"] for link in data_links(panel) if link["url"].startswith("/d/hop2rag-overview?")]
            names = {"table": "__data.fields"}.get(panel["type"], "__field.labels")
            if not any("run" in way and f"var-arm=${{{names}.arm}}" in way for way in ways):
                yield f"{panel['title']}: {ways}"


def variables_are_read(dashboard: Json) -> Iterator[str]:
    """Yield variables that change nothing."""
    asked = " ".join(target["expr"] for panel in panels(dashboard) for target in panel["targets"])
    wanted = READ - OF_ENGINE if dashboard["uid"] in WARM_UP_TOO else READ
    yield from sorted(f"${name} is read by no query" for name in wanted if f'"${name}' not in asked)


def shares_are_percentages(dashboard: Json) -> Iterator[str]:
    """Yield panels that say "share of" and show a plain number."""
    for panel in panels(dashboard):
        unit = panel["fieldConfig"]["defaults"].get("unit")
        says_so = SAYS_SHARE.search(f"{panel['title']} {panel['description']}")
        if says_so and panel["type"] != "table" and unit != "percentunit":
            yield f"{panel['title']}: a share in {unit}"


def legends_summarise(dashboard: Json) -> Iterator[str]:
    """Yield time series whose legend shows anything but the maximum and the mean."""
    for panel in panels(dashboard):
        calculations = panel["options"].get("legend", {}).get("calcs")
        stacking = panel["fieldConfig"]["defaults"].get("custom", {}).get("stacking", {}).get("mode", "none")
        wanted = CALCULATIONS if stacking == "none" else CALCULATIONS_OF_PARTS
        if panel["type"] == "timeseries" and calculations != wanted:
            yield f"{panel['title']}: {calculations}"


def overrides_match(dashboard: Json) -> Iterator[str]:
    """Yield regular expressions that match no series, and arms in a colour that is not theirs."""
    for panel in panels(dashboard):
        legends = [each for target in panel["targets"] for each in _filled(target.get("legendFormat", ""))]
        for override in panel["fieldConfig"]["overrides"]:
            pattern = override["matcher"]["options"]
            if override["matcher"]["id"] != "byRegexp":
                continue
            if PAIRED_ARM.fullmatch(pattern):
                pattern = "arm"
            if not (arm := ARM_NAME.fullmatch(pattern)):
                if not any(re.search(pattern.strip("/"), legend) for legend in legends):
                    yield f"{panel['title']}: {pattern}"
            elif override["properties"][0]["value"].get("fixedColor") != ARM_COLOURS.get(arm[1], ""):
                yield f"{panel['title']}: {arm[1]} in a colour of another"


def _filled(legend: str) -> list[str]:
    """Return what a legend can be, with every value of a label that is known to have few."""
    filled = [legend.replace(label, value) for label, values in VALUES.items() if label in legend for value in values]
    return filled or [legend]


def titles_fit(dashboard: Json) -> Iterator[str]:
    """Yield titles that are cut on a screen of 800 pixels, where a column of the grid has 32 and a letter 7."""
    for panel in panels(dashboard):
        most = (panel["gridPos"]["w"] * 32 - 20) // 7
        if len(panel["title"]) > most:
            yield f"{panel['title']}: {len(panel['title'])} of {most}"


def tables_have_the_page(dashboard: Json) -> Iterator[str]:
    """Yield tables that share a line: at 800 pixels half of the page shows two columns, and none with a number."""
    for panel in panels(dashboard):
        if panel["type"] == "table" and panel["gridPos"]["w"] != 24:
            yield f"{panel['title']}: {panel['gridPos']['w']} of 24 columns"


def headings_have_panels(dashboard: Json) -> Iterator[str]:
    """Yield open rows that have no panel before the next heading."""
    in_order = sorted(dashboard["panels"], key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    for panel, below in zip(in_order, [*in_order[1:], None], strict=True):
        if panel["type"] == "row" and not panel["collapsed"] and (below is None or below["type"] == "row"):
            yield panel["title"]


def sorted_by_a_column(dashboard: Json) -> Iterator[str]:
    """Yield tables that are sorted by a column that they do not have."""
    for panel in panels(dashboard):
        named = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
        yield from (
            f"{panel['title']}: {each['displayName']}"
            for each in panel["options"].get("sortBy", ())
            if each["displayName"] not in named
        )


def marks_of_the_run(dashboard: Json) -> Iterator[str]:
    """Yield annotations of every run; an alert may belong to none."""
    for each in dashboard["annotations"]["list"]:
        expression = each["target"].get("expr", "")
        if expression and "ALERTS" not in expression and 'run=~"$run"' not in expression:
            yield each["name"]


@cache
def _rules() -> tuple[str, ...]:
    files = sorted(asset("prometheus/alerts").glob("*.yml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return tuple(rule["expr"] for group in groups for rule in group["rules"])


def bounds_are_the_alerts(dashboard: Json) -> Iterator[str]:
    """Yield dashed lines at a value that no alert on the same metric has."""
    for panel in panels(dashboard):
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        for step in steps[1:] if panel["type"] == "timeseries" else ():
            read = {
                re.sub(r"_(?:bucket|sum|count)$", "", name)
                for target in panel["targets"]
                for name in re.findall(r"(?:instance:)?(?:vllm[:_]|(?=nvml_|hop2rag))(\w+?)(?::\w+)?\{", target["expr"])
            }
            bound = re.escape(f"{step['value']:g}")
            number = re.compile(rf"(?<![\w.]){bound}(?![\w.])")
            if not any(number.search(rule) and any(name in rule for name in read) for rule in _rules()):
                yield f"{panel['title']}: {step['value']:g}"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        links_keep_time,
        arms_lead_to_their_run,
        variables_are_read,
        shares_are_percentages,
        legends_summarise,
        overrides_match,
        titles_fit,
        tables_have_the_page,
        headings_have_panels,
        sorted_by_a_column,
        marks_of_the_run,
        bounds_are_the_alerts,
    )
}
