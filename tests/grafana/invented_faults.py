"""Twelve faults of kinds that neither the design's list nor the two of `further_faults` has."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.grafana.further_faults import of_first
from tests.grafana.lint import panels

if TYPE_CHECKING:
    from collections.abc import Callable

    Json = dict[str, Any]
    Seed = Callable[[Json], bool]


def _rewritten(pattern: str, new: str) -> Seed:
    """Return the fault of a pattern replaced wherever a dashboard's text has it."""

    def seed(dashboard: Json) -> bool:
        text = json.dumps(dashboard)
        changed = json.loads(re.sub(pattern, new, text))
        found = changed != dashboard
        dashboard.update(changed)
        return bool(found)

    return seed


def _marks_of_all_runs(dashboard: Json) -> bool:
    mark = next(each for each in dashboard["annotations"]["list"] if each["name"] == "Arms")
    mark["target"]["expr"] = re.sub(r'run=~"\$run",?', "", mark["target"]["expr"])
    return True


def _other_bound(dashboard: Json) -> bool:
    for panel in panels(dashboard):
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        if panel["type"] == "timeseries" and len(steps) > 1:
            steps[-1]["value"] *= 2
            return True
    return False


def _other_unit(dashboard: Json) -> bool:
    for panel in panels(dashboard):
        if panel["fieldConfig"]["defaults"].get("unit") == "percentunit" and panel["type"] == "stat":
            panel["fieldConfig"]["defaults"]["unit"] = "short"
            return True
    return False


def _under_another_heading(dashboard: Json) -> bool:
    rows = [panel for panel in dashboard["panels"] if panel["type"] == "row" and not panel["collapsed"]]
    if len(rows) < 2:
        return False
    rows[-1]["gridPos"]["y"] = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    return True


INVENTED_FAULTS: dict[str, Seed] = {
    "a panel's link forgets the time": _rewritten(r"\?\$\{__url_time_range\}&", "?"),
    "a variable that no query reads": _rewritten(r'model_name=~\\"\$model_name\\",', ""),
    "a share in the unit of a count": _other_unit,
    "a legend sums a gauge": of_first("timeseries", lambda panel: panel["options"]["legend"].update(calcs=["sum"])),
    "a colour for a name that no series has": _rewritten(r"/\^prefix-off\( ", "/^prefix_off( "),
    "a heading above nothing": _under_another_heading,
    "a table sorted by a column that is not there": of_first(
        "table", lambda panel: panel["options"].update(sortBy=[{"displayName": "answers", "desc": False}])
    ),
    "marks of other runs": _marks_of_all_runs,
    "a bound that is not the alert's": _other_bound,
    "a click on an arm leads to all": _rewritten(r"&var-arm=\$\{__field\.labels\.arm\}", ""),
    "a count is estimated": _rewritten(
        r"\((\w+_over_time\([^()]+\) - [^()]+\([^()]+\)) and [^()]+\([^()]+\) == 0 or (increase\([^()]+\))\)", r"\2"
    ),
    "a title of another window": _rewritten(r"mean over a minute", "mean over 10 s"),
}
