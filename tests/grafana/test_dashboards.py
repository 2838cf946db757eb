"""The committed dashboards: in step with the catalogue, complete, and without a fault to be found in the JSON."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.grafana.contract import breaches
from tests.grafana.lint import BARE_COUNTERS, FIXED_WINDOWS, lint
from tests.grafana.lint import panels as shown
from tests.grafana.meaning import faults
from tests.grafana.schema import violations
from workload import panels
from workload.dashboards.catalogue import DASHBOARDS
from workload.dashboards.description import describe
from workload.dashboards.files import FOLDER, contents, render
from workload.experiments import EXPERIMENTS
from workload.panels import exporter_health, overview, prompts, vllm_metrics
from workload.panels.colours import ARM_COLOURS, COLOURS
from workload.panels.panel import Panel
from workload.paths import asset
from workload.promql.vllm_facts import load_facts

if TYPE_CHECKING:
    from pathlib import Path

    Json = dict[str, Any]
    Known = dict[str, dict[str, set[str]]]

EACH = pytest.mark.parametrize("name", [dashboard.name for dashboard in DASHBOARDS])
# In a dashboard a hundred lines that cross, one flat line in five colours, or without the GPU's total.
DRAWN_ONLY = {"node_activity", "device_memory_by_node", "device_memory"}
ALERTS_WITH_A_LINE = {
    "VllmKvCacheNearlyFull": vllm_metrics.KV_USAGE,
    "VllmQueueGrowing": vllm_metrics.REQUESTS,
    "VllmPreemptionStorm": vllm_metrics.PREEMPTIONS,
    "VllmTtftBudgetBurn": overview.BURN_RATE,
    "LlmErrorBudgetBurn": overview.BURN_RATE,
    "GpuHot": exporter_health.TEMPERATURE,
    "DiskFilling": exporter_health.DISK_FREE,
}
EXPRESSIONS = {
    rule["alert"]: rule["expr"]
    for path in sorted(asset("prometheus/alerts").glob("*.yml"), reverse=True)
    for group in reversed(yaml.safe_load(path.read_text())["groups"])
    for rule in group["rules"]
    if "alert" in rule and "ALERTS" not in rule["expr"]
}
CATALOGUE = {
    panel.key: panel
    for found in pkgutil.iter_modules(panels.__path__)
    for panel in vars(import_module(f"{panels.__name__}.{found.name}")).values()
    if isinstance(panel, Panel)
}


def test_committed_dashboards_are_the_rendered_ones() -> None:
    """A stale, missing or orphaned file would be what Grafana shows: `python -m workload.dashboards` rewrites them."""
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == contents(), "run `python -m workload.dashboards` and commit the difference"


def test_rendering_removes_what_is_no_longer_a_dashboard(tmp_path: Path) -> None:
    """A dashboard left over would go on being provisioned, with queries that nobody checks."""
    (tmp_path / "old.json").write_text("{}")
    written = render(tmp_path)
    assert set(written) == set(tmp_path.iterdir())
    assert {path.name: path.read_text() for path in written} == contents()


def test_every_experiment_has_its_dashboard() -> None:
    """One name everywhere: who reads of an experiment finds its dashboard under the same name."""
    assert {"overview", "exporter-health", *EXPERIMENTS} <= {dashboard.name for dashboard in DASHBOARDS}


def test_every_panel_of_the_catalogue_is_on_a_dashboard() -> None:
    """A panel that is drawn in a figure and on no dashboard is one that nobody can watch."""
    used = {panel.key for dashboard in DASHBOARDS for row in dashboard.rows for panel in row.panels}
    assert used | DRAWN_ONLY == CATALOGUE.keys()
    assert not used & DRAWN_ONLY


@EACH
def test_lint(name: str, dashboards: dict[str, Json]) -> None:
    """First layer: what a reader of the JSON could find."""
    assert lint(dashboards[name]) == []


@EACH
def test_meaning(name: str, dashboards: dict[str, Json]) -> None:
    """What is well-formed may still say what is not so; each rule is of a kind of fault that once slipped past."""
    assert faults(dashboards[name]) == []


@EACH
def test_schema(name: str, dashboards: dict[str, Json]) -> None:
    """Grafana drops an option that it does not know without a word, and the panel looks other than it was meant."""
    assert violations(dashboards[name]) == []


@EACH
def test_contract(name: str, dashboards: dict[str, Json], known: Known) -> None:
    """A wrong name fails nowhere: the panel is empty, and its emptiness looks like calm."""
    assert breaches(dashboards[name], known) == []


def test_excluded_panels_exist() -> None:
    """An exclusion that outlives its panel would let a namesake through."""
    assert (FIXED_WINDOWS | BARE_COUNTERS).keys() <= {panel.title for panel in CATALOGUE.values()}


@EACH
def test_frame(name: str, dashboards: dict[str, Json]) -> None:
    """What every dashboard shares: an address that stays, the way to the others, and the choice of what is shown."""
    dashboard = dashboards[name]
    assert dashboard["uid"] == f"hop2rag-{name}"
    assert len(dashboard["uid"]) <= 40
    assert dashboard["schemaVersion"] in {41, 42}
    assert "id" not in dashboard
    assert set(dashboard["tags"]) == {"hop2rag", name}
    assert [(link["type"], link["tags"]) for link in dashboard["links"]] == [("dashboards", ["hop2rag"])]
    chosen = {each["name"]: each for each in dashboard["templating"]["list"] if each["type"] == "query"}
    assert list(chosen) == ["run", "experiment", "arm", "model_name", "instance", "gpu", "job", "baseline"]
    singles = [chosen.pop(single) for single in ("run", "job", "baseline")]
    assert not any(each.get("multi") or each.get("includeAll") for each in singles)
    assert all(each["multi"] and each["includeAll"] and each["allValue"] == ".*" for each in chosen.values())
    # Grafana takes the first value of a variable that has none, which is the newest run
    opens_with = {"text": "(all runs)", "value": ".*"} if name == "exporter-health" else None
    assert (singles[0]["sort"], singles[0].get("current")) == (2, opens_with)
    marks = [each["name"] for each in dashboard["annotations"]["list"]]
    assert marks == ["Arms", "Alerts", "Run windows", "Actions on alerts"]


@EACH
def test_an_empty_panel_speaks(name: str, dashboards: dict[str, Json]) -> None:
    """No traffic, no GPU and caching off are answers; an empty panel is a question."""
    words = {panel["fieldConfig"]["defaults"]["noValue"] for panel in shown(dashboards[name])}
    # W6: a silent source does not say that its thing is not there
    assert all(words)
    assert not words & {"caching off", "no GPU", "no exporter", "no engine"}


def test_the_overview_opens_with_few_queries(dashboards: dict[str, Json]) -> None:
    """What opens first is asked every ten seconds by everybody who looks; the rest is asked for when it is opened."""
    opened = [panel for panel in dashboards["overview"]["panels"] if panel["type"] != "row"]
    assert len(opened) <= 20
    assert sum(len(panel["targets"]) for panel in opened) <= 40


def test_an_arm_has_one_colour(dashboards: dict[str, Json]) -> None:
    """W7: the same arm was green in one panel and yellow in the next; its colour is the one that figures draw it in."""
    coloured = [
        {pattern: each["properties"][0]["value"]["fixedColor"] for each in overrides if (pattern := matched(each))}
        for dashboard in dashboards.values()
        for panel in shown(dashboard)
        if (overrides := panel["fieldConfig"]["overrides"]) and panel["type"] in {"timeseries", "bargauge"}
    ]
    of_arms = [found for found in coloured if any("prefix" in pattern for pattern in found)]
    assert len(of_arms) > len(DASHBOARDS)
    assert all(found == {rf"/^{arm}( |$)/": colour for arm, colour in ARM_COLOURS.items()} for found in of_arms)
    assert all(set(found.values()) <= set(COLOURS) for found in coloured)


def matched(override: Json) -> str:
    """Return the pattern of an override of a colour, "" of any other."""
    is_colour = override["properties"][0]["id"] == "color"
    return str(override["matcher"]["options"]) if is_colour else ""


@pytest.mark.parametrize(("alert", "panel"), ALERTS_WITH_A_LINE.items())
def test_an_alert_with_a_bound_is_a_line_in_its_panel(alert: str, panel: Panel, dashboards: dict[str, Json]) -> None:
    """How far a value is from the alert is seen before it fires; a line at another value would be worse than none."""
    drawn = [each for dashboard in dashboards.values() for each in shown(dashboard) if each["title"] == panel.title]
    for each in drawn:
        steps = each["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert each["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] == {"mode": "dashed"}
        assert re.search(rf"[<>] {steps[-1]['value']:g}\b", EXPRESSIONS[alert])
    assert drawn


def test_caching_off_is_said_in_words(dashboards: dict[str, Json]) -> None:
    """With caching off vLLM counts no hits, and a hit ratio without data would look like a broken panel."""
    panel = next(each for each in shown(dashboards["overview"]) if each["title"] == overview.ARMS.title)
    column = next(each for each in panel["fieldConfig"]["overrides"] if each["matcher"]["options"] == "caching")
    words = next(each["value"] for each in column["properties"] if each["id"] == "mappings")[0]["options"]
    assert {value: word["text"] for value, word in words.items()} == {"0": "caching off", "1": "caching on"}


@pytest.mark.parametrize(
    ("panel", "fact"),
    [
        (vllm_metrics.KV_USAGE, "kv_cache_usage"),
        (overview.ENGINE_PHASES, "request_prefill_time"),
        (vllm_metrics.PREEMPTIONS, "preemptions"),
    ],
    ids=lambda value: value.key if isinstance(value, Panel) else "",
)
def test_a_description_names_the_release_it_needs(panel: Panel, fact: str) -> None:
    """On an older server the panel is empty; its reader must find out why without reading PromQL."""
    text = describe(panel)
    assert text.startswith(panel.why)
    assert f"Needs vLLM {load_facts()[fact].names[0].since} or newer." in text


def test_a_description_names_the_flag_it_needs() -> None:
    """Without the flag the server keeps cached tokens to itself, and the panel has no data on any release."""
    assert "Needs vLLM's --enable-prompt-tokens-details." in describe(prompts.REUSE)
