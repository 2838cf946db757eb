"""What the alerts read: every metric and label exists somewhere, and a timeline is never read bare.

A wrong name fails nowhere: the expression is empty, the alert never fires, and its silence looks like health.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from exporter.agent.instruments import AgentMetrics
from exporter.agent.soak import SoakMetrics
from exporter.gpu.rawlog import RawLogMetrics
from tests.prometheus.test_limits import EXCEEDED, RULE_COUNTERS
from workload.agent.state import LLM_NODES, NODES
from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Iterator

    Labels = dict[str, set[str]]

TESTS = Path(__file__).parents[1]
JOBS = {"vllm", "exporter", "workload", "prometheus"}
TARGET = {"job", "instance", "run", "experiment", "arm", "phase"}
RULES: list[dict[str, Any]] = [
    rule
    for folder in ("rules", "alerts")
    for file in sorted(asset(f"prometheus/{folder}").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
# What Prometheus tells of itself; test_limits.py sees that every version does.
OWN_OF_PROMETHEUS = {*EXCEEDED, *RULE_COUNTERS}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
EXPRESSIONS = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES]
NAMES = {name for name, _ in EXPRESSIONS}


@pytest.fixture(scope="module")
def exposed() -> dict[str, Labels]:
    """Return the label values of every metric of the recorded and golden expositions and of the agent's instruments."""
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry, NODES, LLM_NODES)
    metrics.engine.version = "0.32.0"
    RawLogMetrics(registry)
    SoakMetrics(registry, ())
    recorded = [path.read_text() for path in (TESTS / "fixtures").rglob("*.prom")]
    # Goldens hold every series and no value.
    golden = [re.sub(r"(?m)^([^#\n]+)$", r"\1 0", path.read_text()) for path in (TESTS / "golden").glob("*.prom")]
    texts = [generate_latest(registry).decode(), *recorded, *golden]
    found: dict[str, Labels] = defaultdict(lambda: defaultdict(set))
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                for name, value in sample.labels.items():
                    found[sample.name][name].add(value)
                found[sample.name].setdefault("", set())
    return found


def selectors(expression: str) -> Iterator[tuple[str, list[promql_parser.Matcher], bool]]:
    """Yield the metric and matchers of each selector in an expression, and whether it is read over a range."""
    ranged: list[str] = []
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            ranged.append(str(node.vector_selector))
            found.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    for selector in found:
        assert selector.name, f"{selector} names no metric"
        yield selector.name, selector.matchers.matchers, str(selector) in ranged


def unknown(expression: str, exposed: dict[str, Labels]) -> Iterator[str]:
    """Yield what an expression selects by a job, a metric, a label or a value that is nowhere exposed."""
    for name, matchers, _ in selectors(expression):
        values = {(matcher.name, matcher.value): matcher for matcher in matchers}
        yield from (f'job="{value}"' for label, value in values if label == "job" and value not in JOBS)
        if name == "ALERTS":  # Prometheus' own, of alerts that are ours
            yield from (value for label, value in values if label == "alertname" and value not in NAMES)
        if name in {*RECORDED, *OWN_OF_PROMETHEUS, "up", "ALERTS"}:
            continue
        if name not in exposed:
            yield name
            continue
        for (label, value), matcher in values.items():
            is_exact = matcher.op == promql_parser.MatchOp.Equal
            known = exposed[name].get(label, set())
            if label not in TARGET and (label not in exposed[name] or (is_exact and value not in known)):
                yield f'{name}{{{label}="{value}"}}'


def test_metrics_and_labels_exist(exposed: dict[str, Labels]) -> None:
    """A metric, a label or a label's value that nothing exposes makes an alert that cannot fire."""
    assert [(rule, found) for rule, text in EXPRESSIONS for found in unknown(text, exposed)] == []
    seeded = ('x{job="vlm"}', "vllm:num_requests_run", 'vllm:num_requests_running{modle="m"}', 'ALERTS{alertname="No"}')
    assert [expression for expression in seeded if not list(unknown(expression, exposed))] == []


def test_the_nodes_that_wait_for_the_engine_are_the_agents() -> None:
    """A node renamed in the agent would take its calls out of VllmHung."""
    matched = {
        matcher.value
        for name, text in EXPRESSIONS
        if name == "VllmHung"
        for _, matchers, _ in selectors(text)
        for matcher in matchers
        if matcher.name == "node"
    }
    assert matched == {"|".join(LLM_NODES)}


def bare_timelines(expression: str) -> list[str]:
    """Return the timeline series an expression reads at an instant."""
    return [name for name, _, ranged in selectors(expression) if "timeline" in name and not ranged]


def test_no_timeline_is_read_bare() -> None:
    """Explicit timestamps get no staleness marker: for five minutes a dead source would look alive."""
    assert [(rule, found) for rule, text in EXPRESSIONS for found in bare_timelines(text)] == []
    # No rule reads a timeline today: without these the test would pass if it never looked.
    assert bare_timelines("sum(nvml_timeline_memory_used_bytes) > 1") == ["nvml_timeline_memory_used_bytes"]
    assert bare_timelines("last_over_time(nvml_timeline_memory_used_bytes[1s]) > 1") == []
