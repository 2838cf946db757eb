"""A linter of dashboards, by the rule names of grafana/dashboard-linter where it has them."""

from __future__ import annotations

import re
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import promql_parser
from grafana_foundation_sdk.models import units
from promql_parser import MatchOp

from exporter.timeline import MEMORY_USED, NODE_ACTIVE
from tests.grafana.expansion import expand, seconds, variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Json = dict[str, Any]
    Rule = Callable[[Json], Iterator[str]]

UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
CUSTOM_UNIT = re.compile(r"(suffix|prefix|time|si|count|currency|bool):.+")
SOURCE = "${datasource}"
GRAFANA_SOURCE = "-- Grafana --"
COUNTER = re.compile(r"_(total|sum|count|bucket)$")
TIMELINES = {MEMORY_USED, NODE_ACTIVE}
TIMELINE_INTERVAL = "10ms"
WINDOW = re.compile(r"\b(?:rate|increase|irate|resets|(?:max|min|avg)_over_time)\([^[\]]*\[([^\]]+)\]")
IN_PROPORTION = re.compile(r" / |histogram_quantile\(")
# What a counter gained, with increase() where it began again.
EXACT = re.compile(r"resets\(([^()]+)\) == 0 or increase\(\1\)")
# Panel titles and why the rule does not hold for them.
A_MINUTE = "a question takes seconds to minutes: over four seconds most windows hold none"
SO_FAR = "counts since the run began, which is the question; the slope is the throughput"
FIXED_WINDOWS = {
    "Share reusable and reused, over a minute": A_MINUTE,
    "Prompt tokens of a call by hop, over a minute": A_MINUTE,
    "Prompt of a call, mean over a minute": A_MINUTE,
    "Time of a visit by node, mean over a minute": A_MINUTE,
    "Time of a question, mean over a minute": A_MINUTE,
    "Time to the first token, mean over a minute": A_MINUTE,
    "Hops of a question, mean over a minute": A_MINUTE,
    "Time in the engine's queue, mean over a minute": A_MINUTE,
    "Prefill and decode of a request, mean over a minute": A_MINUTE,
    "First tokens behind the percentiles, over a minute": A_MINUTE,
}
WARM_UP_TOO = {"hop2rag-exporter-health"}
BARE_COUNTERS = {"Questions answered so far": SO_FAR}


def lint(dashboard: Json) -> list[str]:
    """Return what is wrong with a dashboard, as `rule: where: what`; nothing when all is well."""
    return [f"{name}: {found}" for name, rule in RULES.items() for found in rule(dashboard)]


def panels(dashboard: Json) -> list[Json]:
    """Return the panels that show data, those in closed rows too."""
    return [panel for panel in with_rows(dashboard) if panel["type"] != "row"]


def with_rows(dashboard: Json) -> list[Json]:
    """Return the panels and the headings, those in closed rows too."""
    return [each for panel in dashboard["panels"] for each in (panel, *panel.get("panels", ()))]


def targets(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Yield each query of panels and annotations, with the title of where it stands."""
    for panel in panels(dashboard):
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))
    for annotation in dashboard["annotations"]["list"]:
        if expression := annotation["target"].get("expr"):
            yield annotation["name"], expression


@cache
def selectors(expression: str) -> tuple[tuple[promql_parser.VectorSelector, bool], ...]:
    """Return each selector of an expanded expression, and whether it is read over a range.

    Raises:
        ValueError: the expression cannot be parsed.
    """
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    ranged = [node.vector_selector for node in found if isinstance(node, promql_parser.MatrixSelector)]
    texts = {str(selector) for selector in ranged}
    instant = [node for node in found if isinstance(node, promql_parser.VectorSelector) and str(node) not in texts]
    return (*((selector, True) for selector in ranged), *((selector, False) for selector in instant))


def _parsed(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Yield each query that can be parsed, expanded; those that cannot are another rule's."""
    for title, expression in targets(dashboard):
        try:
            selectors(expand(expression))
        except ValueError:
            continue
        yield title, expression


def _template_datasource(dashboard: Json) -> Iterator[str]:
    found = [variable for variable in dashboard["templating"]["list"] if variable["type"] == "datasource"]
    if [(variable["name"], variable["query"]) for variable in found] != [("datasource", "prometheus")]:
        yield "no variable `datasource` of type prometheus"
    asked = [*panels(dashboard), *(target for panel in panels(dashboard) for target in panel.get("targets", ()))]
    asked += [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    for part in asked:
        if part.get("datasource") != {"type": "prometheus", "uid": SOURCE}:
            yield f"{part.get('title') or part.get('name') or part.get('refId')}: {part.get('datasource')}"
    for annotation in dashboard["annotations"]["list"]:
        if annotation["datasource"]["uid"] not in {SOURCE, GRAFANA_SOURCE}:
            yield f"{annotation['name']}: {annotation['datasource']}"


def _uneditable(dashboard: Json) -> Iterator[str]:
    if dashboard.get("editable") is not False:
        yield "editable is not false"


def _title_description(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        if not panel.get("title") or not panel.get("description"):
            yield f"{panel.get('id')}: no title or no description"


def _units(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        config = panel["fieldConfig"]
        overridden = [property_ for override in config.get("overrides", ()) for property_ in override["properties"]]
        names = [config["defaults"].get("unit"), *(each["value"] for each in overridden if each["id"] == "unit")]
        yield from (
            f"{panel['title']}: {name}" for name in names if name not in UNITS and not CUSTOM_UNIT.match(str(name))
        )


def _no_targets(dashboard: Json) -> Iterator[str]:
    yield from (panel["title"] for panel in panels(dashboard) if not panel.get("targets"))


def _promql(dashboard: Json) -> Iterator[str]:
    for title, expression in targets(dashboard):
        try:
            selectors(expand(expression))
        except ValueError as error:
            yield f"{title}: {error}"


def _rate_interval(dashboard: Json) -> Iterator[str]:
    for title, expression in targets(dashboard):
        fixed = {window for window in WINDOW.findall(expression) if window not in {"$__rate_interval", "$__range"}}
        if fixed - ({"1m"} if title in FIXED_WINDOWS else set()):
            yield f"{title}: {sorted(fixed)}"


def _counter(dashboard: Json) -> Iterator[str]:
    for title, expression in _parsed(dashboard):
        bare = [
            each.name for each, is_ranged in selectors(expand(expression)) if is_counter(each.name) and not is_ranged
        ]
        if bare and title not in BARE_COUNTERS:
            yield f"{title}: {bare}"


def _extrapolated(dashboard: Json) -> Iterator[str]:
    """Yield totals that are estimates; of a ratio or a quantile both parts are stretched alike."""
    for title, expression in targets(dashboard):
        is_total = not IN_PROPORTION.search(expression)
        if is_total and re.search(r"\bincrease\(", EXACT.sub("", expression)):
            yield f"{title}: increase() extrapolates to the edges of the window"


def is_counter(name: str | None) -> bool:
    """Return whether a name is that of a counter; a recorded name is none."""
    return bool(name and COUNTER.search(name) and not name.startswith("instance:"))


def _timeline(dashboard: Json) -> Iterator[str]:
    read = {
        title: is_ranged
        for title, expression in _parsed(dashboard)
        for selector, is_ranged in sorted(selectors(expand(expression)), key=lambda found: not found[1])
        if selector.name in TIMELINES
    }
    yield from (f"{title}: read bare" for title, is_ranged in read.items() if not is_ranged)
    for panel in panels(dashboard):
        reading = [each for each in panel.get("targets", ()) if any(name in each["expr"] for name in TIMELINES)]
        intervals = {panel.get("interval"), *(target.get("interval") for target in reading)}
        if panel["title"] in read and intervals != {TIMELINE_INTERVAL}:
            yield f"{panel['title']}: the interval is not {TIMELINE_INTERVAL}"


def _unique(dashboard: Json) -> Iterator[str]:
    ids = [panel["id"] for panel in with_rows(dashboard)]
    yield from (f"id {each} twice" for each in set(ids) if ids.count(each) > 1)
    for panel in panels(dashboard):
        refs = [target["refId"] for target in panel.get("targets", ())]
        if len(refs) != len(set(refs)):
            yield f"{panel['title']}: refIds {refs}"


def _grid(dashboard: Json) -> Iterator[str]:
    for group in (dashboard["panels"], *(panel.get("panels", ()) for panel in dashboard["panels"])):
        yield from _overlaps([(panel["title"], panel["gridPos"]) for panel in group])


def _overlaps(placed: list[tuple[str, Json]]) -> Iterator[str]:
    yield from (f"{title}: beyond the grid" for title, at in placed if at["x"] + at["w"] > 24)
    for (title, one), (other_title, other) in combinations(placed, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        if not apart and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]:
            yield f"{title} over {other_title}"


def _variables(dashboard: Json) -> Iterator[str]:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    texts = [*targets(dashboard), *((panel["title"], panel["title"]) for panel in panels(dashboard))]
    texts += [(each["name"], each["query"]) for each in dashboard["templating"]["list"]]
    links = [*dashboard["links"], *(link for panel in panels(dashboard) for link in panel.get("links", ()))]
    links += [link for panel in panels(dashboard) for link in panel["fieldConfig"]["defaults"].get("links", ())]
    texts += [(link["title"], link["title"] + link.get("url", "")) for link in links]
    for where, text in texts:
        yield from (f"{where}: ${name}" for name in sorted(variables(text) - defined))


def _heatmap(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        formats = {target.get("format") for target in panel.get("targets", ())}
        if panel["type"] == "heatmap" and formats != {"heatmap"}:
            yield f"{panel['title']}: {formats}"


def _thresholds(dashboard: Json) -> Iterator[str]:
    for panel in panels(dashboard):
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps")
        if steps is not None and (not steps or steps[0]["value"] is not None):
            yield f"{panel['title']}: no base"


def _time(dashboard: Json) -> Iterator[str]:
    found = re.fullmatch(r"now-(\d+(?:ms|s|m|h))", dashboard["time"]["from"])
    if not found or seconds(found[1]) <= 0 or dashboard["time"]["to"] != "now":
        yield str(dashboard["time"])


def _warm_up(dashboard: Json) -> Iterator[str]:
    """Yield panels that compare a warm-up with what was measured; what runs and what is ill is shown at any time."""
    if dashboard["uid"] in WARM_UP_TOO:
        return
    titles = {panel["title"] for panel in panels(dashboard)}
    for title, expression in _parsed(dashboard):
        for selector, _ in selectors(expand(expression)):
            found = {(each.name, each.value) for each in selector.matchers.matchers if each.op == MatchOp.NotEqual}
            if title in titles and ("phase", "warmup") not in found and selector.name != "ALERTS":
                yield f"{title}: {selector.name} of a warm-up"


RULES: dict[str, Rule] = {
    "warm-up": _warm_up,
    "template-datasource-rule": _template_datasource,
    "uneditable-dashboard-rule": _uneditable,
    "panel-title-description-rule": _title_description,
    "panel-units-rule": _units,
    "panel-no-targets-rule": _no_targets,
    "target-promql-rule": _promql,
    "target-rate-interval-rule": _rate_interval,
    "target-counter-agg-rule": _counter,
    "target-count-rule": _extrapolated,
    "timeline": _timeline,
    "unique-ids": _unique,
    "grid": _grid,
    "variables": _variables,
    "heatmap-format": _heatmap,
    "threshold-base": _thresholds,
    "time-range": _time,
}
