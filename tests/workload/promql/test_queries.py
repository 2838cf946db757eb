"""Every PromQL string of the project: looked at when it changes, valid, and of metrics that exist.

A wrong metric name never fails a run: Prometheus returns an empty result and the report silently loses that column.
"""

from __future__ import annotations

import os
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import promql_parser
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import AgentMetrics
from exporter.agent.soak import SoakMetrics
from exporter.gpu.rawlog import RawLogMetrics
from exporter.gpu.sampler import SamplerMetrics
from exporter.host.processes import ProcessCollector, Target
from exporter.timeline import MEMORY_USED, NODE_ACTIVE
from workload import panels, promql
from workload.agent.state import LLM_NODES, NODES
from workload.panels.panel import Panel
from workload.paths import asset
from workload.promql import exporter_health
from workload.promql.annotations import ARM_SPANS
from workload.promql.query import GRAFANA_SCOPE, Query, rate_interval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

TESTS = Path(__file__).parents[2]
GOLDEN = TESTS / "golden" / "queries.txt"
LABELS = {"run": "20250131-235959-x", "experiment": "vllm-metrics", "arm": "prefix-on"}
TIMELINES = (MEMORY_USED, NODE_ACTIVE)


def modules(package: ModuleType) -> list[ModuleType]:
    """Return the modules of a package."""
    return [import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]


QUERIES = [query for module in modules(promql) for query in vars(module).values() if isinstance(query, Query)]
PANELS = [panel for module in modules(panels) for panel in vars(module).values() if isinstance(panel, Panel)]
# What only a dashboard draws may keep further labels: there each of them is a line, a bar or a row of its own.
DASHBOARD_ONLY = {
    line.query for panel in PANELS for line in panel.lines if panel.kind != "timeseries" or "{{" in line.legend
} | {ARM_SPANS}
# What an alert told, and the health of what watches, are of the warm-up too.
WARM_UP_TOO = {
    "alerts_fired",
    "arm_spans",
    *(query.name for query in vars(exporter_health).values() if isinstance(query, Query)),
}


def scoped(query: Query) -> str:
    """Return a query as a figure asks it."""
    return query.scoped(LABELS, 1.0)


def selectors(expression: str) -> Iterator[tuple[promql_parser.VectorSelector, bool]]:
    """Yield each selector of an expression and whether it is read over a range."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    ranged = [node.vector_selector for node in found if isinstance(node, promql_parser.MatrixSelector)]
    yield from ((selector, True) for selector in ranged)
    plain = (node for node in found if isinstance(node, promql_parser.VectorSelector))
    yield from ((node, False) for node in plain if str(node) not in map(str, ranged))


def matchers(selector: promql_parser.VectorSelector) -> dict[str, str]:
    """Return a selector's label matchers."""
    return {matcher.name: matcher.value for matcher in selector.matchers.matchers}


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Return the names that recorded servers, the agent, the exporter and the recording rules expose."""
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry, NODES, LLM_NODES)
    metrics.expect(metrics.cached_prompt_tokens)
    metrics.expect(metrics.reusable_prompt_tokens)
    metrics.engine.version, metrics.engine.kv_pool_bytes, metrics.engine.kv_block_bytes = "0.32.0", 1.0, 1.0
    registry.register(BusySeconds())
    RawLogMetrics(registry)
    SamplerMetrics(registry)
    SoakMetrics(registry, ())
    processes = ProcessCollector({"agent": Target(pid=os.getpid())})
    families = (*registry.collect(), *processes.collect())
    names = {sample.name for family in families for sample in family.samples}
    names |= {f"{family.name}_total" for family in families if family.type == "counter"}
    for path in (*(TESTS / "fixtures" / "vllm").glob("*.prom"), *(TESTS / "golden").glob("*.prom")):
        names |= set(re.findall(r"(?m)^([a-zA-Z_:][\w:]*)", path.read_text()))
    for file in asset("prometheus").glob("[ra]*/*.yml"):
        groups = yaml.safe_load(file.read_text())["groups"]
        names |= {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    # what Prometheus itself writes about each target
    return names | set(TIMELINES) | {"up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS"}


def test_a_figure_compares_with_the_baseline_that_is_given() -> None:
    """`baseline` is no label of a series, and without it each arm would be compared with the sum of all."""
    query = Query("change", "a{$scope} / b{$baseline}")
    compared = query.scoped({"run": "r", "baseline": "low"}, 1.0)
    assert compared == 'a{run="r",phase!="warmup"} / b{run="r",arm="low",phase!="warmup"}'


def test_golden() -> None:
    """A renamed metric or a lost label is a diff that somebody looks at, never a silent change."""
    text = "".join(
        f"{query.name}\n  figure:  {scoped(query)}\n  grafana: {query.grafana()}\n"
        for query in sorted(QUERIES, key=lambda query: query.name)
    )
    if not GOLDEN.exists() or GOLDEN.read_text() != text:
        GOLDEN.write_text(text)
        pytest.fail(f"{GOLDEN.name} was rewritten: look at the difference, commit it, run again")


def test_names_are_unique() -> None:
    """The name is the key in the golden and in a run's bundle; of two equal ones the second would win."""
    names = [query.name for query in {id(query): query for query in QUERIES}.values()]
    assert len(names) == len(set(names)) > 0


def refusal(promql: str) -> str | None:
    """Return why Prometheus would refuse a query, None if it would not."""
    try:
        promql_parser.parse(promql)
    except ValueError as error:
        return str(error)
    return "a variable of Grafana is left" if "$" in promql else None


def test_both_forms_are_valid() -> None:
    """A query that Prometheus refuses is found here and not at the end of an hour's run."""
    forms = {(query.name, "figure"): scoped(query) for query in QUERIES}
    for query in QUERIES:
        forms[query.name, "grafana"] = (
            query.grafana().replace("$__rate_interval", "4s").replace("$__range", "1h").replace('"$', '"')
        )
    refused = {form: why for form, promql in forms.items() if (why := refusal(promql))}
    assert refused == {}


def test_every_metric_exists(known: set[str]) -> None:
    """Names come from recorded servers, from our own instruments and from our rules; from nowhere else."""
    read = {(query.name, selector.name) for query in QUERIES for selector, _ in selectors(scoped(query))}
    assert {(query, metric) for query, metric in read if metric not in known} == set()


def breaches(query: Query) -> Iterator[str]:
    """Yield in what a query is not of one arm, of one job, and of the measured phase alone."""
    text, found = scoped(query), [selector for selector, _ in selectors(scoped(query))]
    for selector in found:
        labels = matchers(selector)
        if not labels.items() >= LABELS.items():
            yield f"{selector} is of any arm"
        if "job" not in labels and str(selector.name).startswith("vllm:"):
            yield f"{selector} is of any job"
    if 'phase!="warmup"' not in text and query.name not in WARM_UP_TOO:
        yield "the warm-up counts"
    for name in GRAFANA_SCOPE:
        # an alert may be of no run at all, and the arm of a baseline is one
        if len(re.findall(rf'\b{name}=(~"\${name}\|?"|"\$baseline")', query.grafana())) != len(found):
            yield f"Grafana's {name} is not in every selector"


def test_every_selector_is_of_one_arm_and_one_job() -> None:
    """Without the run's labels a panel mixes runs; without the job everything of vLLM counts twice."""
    assert {query.name: found for query in QUERIES if (found := list(breaches(query)))} == {}


def outermost(node: promql_parser.Expr) -> list[promql_parser.AggregateExpr]:
    """Return the aggregations that stand in no other one: what they keep is what a query's series have."""
    if isinstance(node, promql_parser.AggregateExpr):
        return [node]
    if isinstance(node, promql_parser.BinaryExpr):
        return [*outermost(node.lhs), *outermost(node.rhs)]
    if isinstance(node, promql_parser.ParenExpr):
        return outermost(node.expr)
    return [each for argument in getattr(node, "args", ()) for each in outermost(argument)]


def test_every_query_gives_one_line_per_arm() -> None:
    """A figure draws one series per query and would lose a second one silently: all but the arm is summed away."""
    kept = {
        query: [set(node.modifier.labels) for node in outermost(promql_parser.parse(scoped(query))) if node.modifier]
        for query in QUERIES
    }
    assert [query.name for query, labels in kept.items() if not labels and query not in DASHBOARD_ONLY] == []
    drawn = {query.name: labels for query, labels in kept.items() if query not in DASHBOARD_ONLY}
    assert {name: labels for name, labels in drawn.items() if not all(each <= {"arm", "le"} for each in labels)} == {}


def reads_timeline_barely(expression: str) -> bool:
    """Return whether a series with explicit timestamps is read as an instant value."""
    return any(selector.name in TIMELINES and not is_ranged for selector, is_ranged in selectors(expression))


def test_no_timeline_is_read_bare() -> None:
    """Explicit timestamps get no staleness marker: read bare, a node that was left would stay active for 5 minutes."""
    assert [query.name for query in QUERIES if reads_timeline_barely(scoped(query))] == []
    assert reads_timeline_barely(f"sum({NODE_ACTIVE}) and last_over_time({MEMORY_USED}[2s])")


@given(st.text(max_size=30))
def test_row_20_a_label_value_adds_no_promql(value: str) -> None:
    """A run may be named by anyone; the value ends up in the matcher, whole, and nothing else changes."""
    for query in QUERIES:
        for selector, _ in selectors(query.scoped({**LABELS, "run": value}, 1.0)):
            assert matchers(selector)["run"] == value


@pytest.mark.parametrize(("step", "scrape", "expected"), [(0.25, 1, "4000ms"), (15, 1, "16000ms"), (1, 0.1, "1100ms")])
def test_the_window_of_a_rate_is_grafana_s(step: float, scrape: float, expected: str) -> None:
    """Figure and dashboard draw the same line only if they average over the same time: max(step + scrape, 4 scrape)."""
    assert rate_interval(step, scrape) == expected


def gaps(panel: Panel) -> Iterator[str]:
    """Yield what a reader of a panel would miss."""
    legends = [line.legend for line in panel.lines]
    if not all(line.query in QUERIES for line in panel.lines):
        yield "a query of its own"
    if len(legends) != len(set(legends)):
        yield "two lines of one name"
    if not all(legends) and len(legends) > 1 and panel.kind != "table":
        yield "a line without a name"
    if not panel.title or not panel.why.endswith("."):
        yield "no title, or no sentence that says why"


def test_every_panel_asks_known_queries_and_says_why() -> None:
    """A panel has no PromQL of its own, tells its lines apart, and says what it is for."""
    assert {panel.key: found for panel in PANELS if (found := list(gaps(panel)))} == {}


def test_panels_have_names_of_their_own() -> None:
    """The key names the panel's CSV in the bundle."""
    assert len({panel.key for panel in PANELS}) == len({id(panel) for panel in PANELS}) > 0


WINDOW = re.compile(r"\[([^\]:]+)\]|(?:_rate|:rate|_increase)(\d+\w)")


def windows(panel: Panel) -> set[str]:
    """Return the times over which a panel's rates are taken."""
    rates = [line.query.expression for line in panel.lines]
    return {found[1] or found[2] for text in rates for found in WINDOW.finditer(text) if "last_over_time" not in text}


def test_one_panel_has_one_window() -> None:
    """Two rates over 10 s and over 4 s were drawn as lines to compare: one of them is smoother and later."""
    found = {panel.key: windows(panel) for panel in PANELS if panel.kind == "timeseries"}
    assert any(found.values())
    assert {key: widths for key, widths in found.items() if len(widths) > 1} == {}
