"""Fifteen faults of kinds that were in no list when the dashboard tests were written.

Each one is seeded into every dashboard in which it can occur. They show a number that is wrong, or a time, a scope or
an emptiness that the reader takes for another; none of them breaks the JSON, PromQL or a name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.grafana.lint import panels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Json = dict[str, Any]
    Seed = Callable[[Json], bool]

AGENT_RATE = re.compile(r"rate\((hop2rag_\w+_total\{[^}]*\})\[\$__rate_interval\]\)")


def _targets(dashboard: Json, *kinds: str) -> Iterator[tuple[Json, Json]]:
    for panel in panels(dashboard):
        if not kinds or panel["type"] in kinds:
            yield from ((panel, target) for target in panel["targets"])


def _rewritten(old: str, new: str, *kinds: str) -> Seed:
    """Return the fault of a pattern replaced in the first query that has it."""

    def seed(dashboard: Json) -> bool:
        for _, target in _targets(dashboard, *kinds):
            if re.search(old, target["expr"]):
                target["expr"] = re.sub(old, new, target["expr"])
                return True
        return False

    return seed


def of_first(kind: str, change: Callable[[Json], object]) -> Seed:
    """Return the fault of a change to the first panel of a kind."""

    def seed(dashboard: Json) -> bool:
        found = next((panel for panel in panels(dashboard) if panel["type"] == kind), None)
        if found:
            change(found)
        return found is not None

    return seed


def _per_second_as_increase(dashboard: Json) -> bool:
    for panel, target in _targets(dashboard, "timeseries"):
        if panel["fieldConfig"]["defaults"]["unit"] in {"eps", "reqps"} and AGENT_RATE.search(target["expr"]):
            target["expr"] = target["expr"].replace("rate(", "increase(")
            return True
    return False


def _hundredfold(dashboard: Json) -> bool:
    for panel, target in _targets(dashboard, "timeseries", "stat"):
        if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
            target["expr"] = f"100 * ({target['expr']})"
            return True
    return False


def _arms_pooled(dashboard: Json) -> bool:
    for _, target in _targets(dashboard, "timeseries", "bargauge"):
        if "by (arm, " in target["expr"] and "{{arm}}" in target["legendFormat"]:
            target["expr"] = target["expr"].replace("by (arm, ", "by (")
            target["legendFormat"] = target["legendFormat"].replace("{{arm}}", "").strip()
            return True
    return False


def _forgetful_link(dashboard: Json) -> bool:
    dashboard["links"][0]["keepTime"] = False
    return True


def _stale_variable(dashboard: Json) -> bool:
    run = next(each for each in dashboard["templating"]["list"] if each["name"] == "run")
    run["refresh"] = 0
    return True


FURTHER_FAULTS: dict[str, Seed] = {
    "a query is asked an hour earlier": _rewritten(r"(\{[^}]*\})(\[\$__rate_interval\])", r"\1\2 offset 1h"),
    "only the largest series is shown": _rewritten(r"^(.+)$", r"topk(1, \1)", "timeseries"),
    "a dead source reads 0": _rewritten(r"^(.+)$", r"(\1) or vector(0)", "stat"),
    "both jobs of an engine are summed": _rewritten(r'job="vllm(-fast)?"', 'job=~"vllm.*"', "timeseries"),
    "arms are pooled": _arms_pooled,
    "the rate of a gauge": _rewritten(
        r"(instance:vllm_requests_running:sum|hop2rag_node_active|nvml_power_watts)(\{[^}]*\})(?!\[)",
        r"rate(\1\2[$__rate_interval])",
        "timeseries",
    ),
    "an increase under a unit per second": _per_second_as_increase,
    "the least under a title of the most": _rewritten(r"max_over_time\(", "min_over_time(", "stat", "timeseries"),
    "a share times a hundred": _hundredfold,
    "a panel with a time of its own": of_first("timeseries", lambda panel: panel.update(timeFrom="6h")),
    "too few points for a peak": of_first("timeseries", lambda panel: panel.update(maxDataPoints=10)),
    "a line across a gap": of_first(
        "timeseries", lambda panel: panel["fieldConfig"]["defaults"]["custom"].update(spanNulls=True)
    ),
    "nothing reads 0": of_first("stat", lambda panel: panel["fieldConfig"]["defaults"].update(noValue="0")),
    "a link forgets the time": _forgetful_link,
    "a variable that is never asked again": _stale_variable,
}


def _defaults(**changed: Any) -> Callable[[Json], None]:
    return lambda panel: panel["fieldConfig"]["defaults"].update(changed)


def _legends_alike(dashboard: Json) -> bool:
    for panel in panels(dashboard):
        if panel["type"] == "timeseries" and len(panel["targets"]) > 1:
            for target in panel["targets"]:
                target["legendFormat"] = "{{arm}}"
            return True
    return False


def _upside_down(dashboard: Json) -> bool:
    for panel in panels(dashboard):
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        if len(steps) > 1:
            steps[0]["color"], steps[-1]["color"] = steps[-1]["color"], steps[0]["color"]
            return True
    return False


def _last_of_a_range(dashboard: Json) -> bool:
    for _, target in _targets(dashboard, "stat"):
        target.update(instant=False, range=True)
        return True
    return False


def _milliseconds(dashboard: Json) -> bool:
    for panel in panels(dashboard):
        is_time = re.search(r"_seconds(:p|_sum|_bucket)", panel["targets"][0]["expr"])
        if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"]["unit"] == "s" and is_time:
            panel["fieldConfig"]["defaults"]["unit"] = "ms"
            return True
    return False


def _other_label(dashboard: Json) -> bool:
    run = next(each for each in dashboard["templating"]["list"] if each["name"] == "run")
    run["query"] = "label_values(up, instance)"
    return True


def _of_first_table(change: Callable[[Json], object]) -> Seed:
    return of_first("table", change)


def _renamed_alike(panel: Json) -> None:
    names = next(each for each in panel["transformations"] if each["id"] == "organize")["options"]["renameByName"]
    names.update(dict.fromkeys(names, next(iter(names.values()))))


def _swapped(dashboard: Json) -> bool:
    for panel in panels(dashboard):
        if panel["type"] == "timeseries" and "P95" in panel["targets"][-1]["legendFormat"]:
            one, other = panel["targets"]
            one["expr"], other["expr"] = other["expr"], one["expr"]
            return True
    return False


def _stacked(dashboard: Json) -> bool:
    for panel in panels(dashboard):
        if panel["type"] == "timeseries" and "P95" in panel["targets"][-1]["legendFormat"]:
            panel["fieldConfig"]["defaults"]["custom"]["stacking"] = {"mode": "normal", "group": "A"}
            return True
    return False


def _hidden(dashboard: Json) -> bool:
    for _, target in _targets(dashboard, "timeseries"):
        target["hide"] = True
        return True
    return False


# Those of the list by which the tests were judged: 1 of 18 was caught then, of which this leaves out that one.
JUDGED_FAULTS: dict[str, Seed] = {
    "m1 a window shorter than a scrape": _rewritten(r"\[1m\]", "[2s]"),
    "m2 two legends alike": _legends_alike,
    "m3 thresholds upside down": _upside_down,
    "m4 the last of a range": _last_of_a_range,
    "m5 seconds as milliseconds": _milliseconds,
    "m6 a variable of another label": _other_label,
    "m7 two columns of one name": _of_first_table(_renamed_alike),
    "m8 a link to a dashboard that is not there": of_first(
        "stat", lambda panel: panel.update(links=[{"title": "more", "url": "/d/hop2rag-memory"}])
    ),
    "m9 a description of other metrics": of_first(
        "timeseries",
        lambda panel: panel.update(description="As it was. Reads vllm:gone_total. Needs vLLM 0.1 or newer."),
    ),
    "m10 a scale that cuts": of_first("timeseries", _defaults(max=0.1)),
    "m11 two queries swapped": _swapped,
    "m12 P95 reads p50": _rewritten(":p95_", ":p50_", "timeseries"),
    "m13 percentiles stacked": _stacked,
    "m14 a sum of ratios": _rewritten(
        r"(?:max|avg) by \((\w+)\) \((max_over_time\()?(vllm:kv_cache_usage_perc|instance:vllm_\w+ratio)",
        r"sum by (\1) (\2\3",
    ),
    "m15 an override of no column": _of_first_table(
        lambda panel: panel["fieldConfig"]["overrides"][0]["matcher"].update(options="no such column")
    ),
    "m16 a hidden line": _hidden,
    "m17 a scale of a hundred": of_first("timeseries", _defaults(max=100)),
}
