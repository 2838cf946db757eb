"""Rules on what a dashboard says, where its JSON, its PromQL and its names are all well-formed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.grafana.agreement import RULES as AGREEMENT
from tests.grafana.expansion import expand
from tests.grafana.lint import WARM_UP_TOO, is_counter, panels, selectors
from workload.dashboards.catalogue import DASHBOARDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Json = dict[str, Any]
    Rule = Callable[[Json], Iterator[str]]

PANELS = [panel for dashboard in DASHBOARDS for row in dashboard.rows for panel in row.panels]
STACKED = {panel.title for panel in PANELS if panel.is_stacked}
# Nodes follow each other, so arms do too: the parts of one worker's time.
WITHOUT_ARMS = {"Visits in progress by node"}
UIDS = {dashboard.uid for dashboard in DASHBOARDS}
OWN_TIME = ("timeFrom", "timeShift", "maxDataPoints")
# The least stands for itself; taken from the most it is what a counter gained.
ELSEWHEN = re.compile(r"\b(offset|topk|bottomk|vector|(?<!\) - )min_over_time)\b")
OVER_TIME = re.compile(r"\b(?:rate|irate|increase)\((\w[\w:]*)")
SUM_OF_RATIO = re.compile(r"sum (?:(?:by|without) \([^)]*\) )?\((?:\w+_over_time\()?[\w:]*(?:_ratio|_perc)\b")
IN_SECONDS = re.compile(r"_seconds_bucket\{(?![^}]*\ble=)|_seconds:p\d+_|_seconds_sum\{[^}]*\}\[[^]]+\]\)\) / ")
IN_BYTES = re.compile(r"^[^/]*_bytes\{[^/]*$")
PERCENTILE = re.compile(r"P(\d\d)$")


def faults(dashboard: Json) -> list[str]:
    """Return what a dashboard says that is not so, as `rule: where: what`."""
    return [f"{name}: {found}" for name, rule in RULES.items() for found in rule(dashboard)]


def _targets(dashboard: Json) -> Iterator[tuple[Json, Json]]:
    for panel in panels(dashboard):
        yield from ((panel, target) for target in panel["targets"])


def _alive(dashboard: Json) -> Iterator[str]:
    """A single value is asked once, a gap is a gap, and nothing is never a number."""
    for panel, target in _targets(dashboard):
        if panel["type"] == "stat" and not target.get("instant"):
            yield f"{panel['title']}: the last of a range stays after its source is dead"
        if target.get("hide"):
            yield f"{panel['title']}: a query is hidden"
    for panel in panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        if defaults.get("custom", {}).get("spanNulls"):
            yield f"{panel['title']}: a line across gaps"
        if re.search(r"\d", defaults.get("noValue", "0")):
            yield f"{panel['title']}: nothing reads {defaults.get('noValue')}"
        yield from (f"{panel['title']}: {name}" for name in OWN_TIME if name in panel)


def _whole(dashboard: Json) -> Iterator[str]:
    """A query asks for all of the present, of one job, by arm."""
    for panel, target in _targets(dashboard):
        title, expression = panel["title"], target["expr"]
        yield from (f"{title}: {found}" for found in ELSEWHEN.findall(expression))
        yield from (f"{title}: job=~{job}" for job in re.findall(r"job=~(\S+?)[,}]", expression) if job != '"$job"')
        is_by_arm = panel["type"] not in {"timeseries", "bargauge"} or "{{arm}}" in target["legendFormat"]
        if dashboard["uid"] not in WARM_UP_TOO and title not in WITHOUT_ARMS and not is_by_arm:
            yield f"{title}: all arms in one"


def _arithmetic(dashboard: Json) -> Iterator[str]:
    """A rate is of a counter, a rate has a unit per second, ratios are not added, and parts alone are stacked."""
    for panel, target in _targets(dashboard):
        title, expression, unit = panel["title"], target["expr"], panel["fieldConfig"]["defaults"]["unit"]
        yield from (f"{title}: the rate of {name}" for name in OVER_TIME.findall(expression) if not is_counter(name))
        if panel["type"] == "timeseries" and unit in {"eps", "reqps", "count:tok/s"} and "increase(" in expression:
            yield f"{title}: an increase in {unit}"
        if unit == "percentunit" and re.search(r"\b\d{2,} \*|\* \d{2,}\b", expression):
            yield f"{title}: a share times a number"
        if SUM_OF_RATIO.search(expression):
            yield f"{title}: a sum of ratios"
        if panel["type"] != "table" and "heatmap" not in panel["type"]:
            for pattern, wanted in ((IN_SECONDS, "s"), (IN_BYTES, "bytes")):
                if pattern.search(expression) and unit != wanted:
                    yield f"{title}: {unit} for {wanted}"
    for panel in panels(dashboard):
        stacking = panel["fieldConfig"]["defaults"].get("custom", {}).get("stacking", {}).get("mode", "none")
        if stacking != "none" and panel["title"] not in STACKED:
            yield f"{panel['title']}: stacked"


def _scale(dashboard: Json) -> Iterator[str]:
    """Steps rise from a neutral base, and no scale cuts values."""
    for panel in panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        steps = defaults.get("thresholds", {}).get("steps", [])
        values = [step["value"] for step in steps if step["value"] is not None]
        if values != sorted(values) or (steps and steps[0]["color"] != "text"):
            yield f"{panel['title']}: thresholds {steps}"
        if "max" in defaults or defaults.get("min", 0) != 0:
            yield f"{panel['title']}: a fixed scale"


def _words(dashboard: Json) -> Iterator[str]:
    """What a legend, a description and a column are called is what they are."""
    for panel, target in _targets(dashboard):
        title = panel["title"]
        legend, expression = target.get("legendFormat", ""), target["expr"]
        asked = set(re.findall(r":p(\d\d)_", expression)) | {
            f"{int(found):02}" for found in re.findall(r"quantile\(0\.(\d\d)", expression)
        }
        if (found := PERCENTILE.search(legend)) and found[1] not in asked:
            yield f"{title}: {legend} of {asked}"
        if ("cache" in legend or "measured" in legend) != ("cache_hits" in expression or "cached" in expression) and (
            panel["type"] == "timeseries" and {"from cache", "prompt", "measured", "bound"} & set(_last_words(legend))
        ):
            yield f"{title}: {legend} is another quantity"
    for panel in panels(dashboard):
        read = {str(selector.name) for target in panel["targets"] for selector, _ in selectors(expand(target["expr"]))}
        said = re.search(r"Reads ([^ ]+(?:, [^ ]+)*)\.(?: |$)", panel["description"])
        if not said or set(said[1].split(", ")) != read:
            yield f"{panel['title']}: the description is of other metrics"
        yield from _columns(panel)


def _last_words(legend: str) -> Iterator[str]:
    yield from (legend.removeprefix("{{arm}} "),)


def _columns(panel: Json) -> Iterator[str]:
    if panel["type"] != "table":
        return
    renamed = [
        name
        for transformation in panel["transformations"]
        for name in transformation["options"].get("renameByName", {}).values()
    ]
    if len(set(renamed)) < len(renamed):
        yield f"{panel['title']}: two columns of one name"
    kept = {
        label
        for target in panel["targets"]
        for by in re.findall(r"by \(([^)]*)\)", target["expr"])
        for label in by.split(", ")
    }
    named = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
    yield from (f"{panel['title']}: no column {name}" for name in named - kept - set(renamed))


def _ways(dashboard: Json) -> Iterator[str]:
    """Links lead somewhere and keep what was chosen; variables ask for themselves, again and again."""
    yield from (f"/d/{uid}" for uid in re.findall(r"/d/([\w-]+)", json.dumps(dashboard)) if uid not in UIDS)
    for link in dashboard["links"]:
        if not (link["keepTime"] and link["includeVars"]):
            yield f"{link['title']}: forgets what was chosen"
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            wanted = {"baseline": "arm"}.get(variable["name"], variable["name"])
            asks_itself = re.search(rf", {wanted}\)$|^query_result\(.*by \({wanted}\)", variable["query"])
            if not asks_itself:
                yield f"{variable['name']}: {variable['query']}"
            if variable["refresh"] != 2:
                yield f"{variable['name']}: asked once"


RULES: dict[str, Rule] = {
    "alive": _alive,
    "whole": _whole,
    "arithmetic": _arithmetic,
    "scale": _scale,
    "words": _words,
    "ways": _ways,
    **AGREEMENT,
}
