"""The alerts' own cases again, with the labels that others put on targets and metrics: none may change an alert."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml

from tests.prometheus.labelling import BY_KUBERNETES, OF_KUBERNETES, TWICE, WAYS, parsed
from tests.prometheus.narrowing import read_suite, write_narrowed
from workload.paths import asset
from workload.promql.recording_rules import TARGET_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Json = dict[str, Any]

# The pages read what the other alerts say, so those are fed to them, and no metric of a target.
CASES = sorted(file for file in (Path(__file__).parent / "alerts").glob("*.yml") if file.stem != "pages")
RULES = [
    (rule.get("alert") or rule["record"], rule["expr"])
    for folder in ("rules", "alerts")
    for file in sorted(asset(f"prometheus/{folder}").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
OF_A_TARGET = {
    TARGET_LABELS,
    f"{TARGET_LABELS}, model_name",
    f"{TARGET_LABELS}, model_name, engine",
    f"{TARGET_LABELS}, volume",
}
# Rules that also match more loosely: an agent with its engine, an address whatever run it serves, a heartbeat.
LOOSER = {
    "VllmDown": {"cluster, namespace, pod, instance", "run, experiment, arm"},
    "VllmHung": {"run, experiment, arm, phase"},
    "GpuLost": {"cluster, namespace, pod, job, instance", "cluster, namespace, pod, job, instance, gpu"},
    "DiskWritesFailing": {""},
}
MATCHING = re.compile(r"\b(?:on|by) \(([^()]*)\)")


def relabelled(test: Json, way: str) -> Json | None:
    """Return a case with its series labelled that way, and the number of alerts that must fire at each instant.

    An alert on one target fires for each target. None where two series of the case would become one, and where the
    labels stay the same: that case is run by test_alerts.py.
    """
    before = {each["series"]: each["values"] for each in test.get("input_series", ())}
    series = WAYS[way](before)
    if len(series) < len(before) or list(map(parsed, series)) == list(map(parsed, before)):
        return None
    changed: Json = {key: value for key, value in test.items() if key not in {"alert_rule_test", "promql_expr_test"}}
    changed["input_series"] = [{"series": name, "values": values} for name, values in series.items()]
    changed["promql_expr_test"] = [
        wanted for asked in test["alert_rule_test"] for wanted in _counts(asked, way, is_scraped=_is_scraped(series))
    ]
    return changed


def _is_scraped(series: dict[str, str]) -> bool:
    return any("job" in parsed(name)[1] for name in series)


def _counts(asked: Json, way: str, *, is_scraped: bool) -> Iterator[Json]:
    selector = f'ALERTS{{alertname="{asked["alertname"]}",alertstate="firing"'
    of_targets = sum("instance" in alert["exp_labels"] for alert in asked["exp_alerts"])
    others = len(asked["exp_alerts"]) - of_targets
    times = 2 if way == TWICE and is_scraped else 1
    wanted = {f'count({selector},instance!=""}})': times * of_targets, f'count({selector},instance=""}})': others}
    if way == BY_KUBERNETES:
        kept = ",".join(f'{name}="{value}"' for name, value in OF_KUBERNETES.items())
        wanted[f'count({selector},instance!="",{kept}}})'] = of_targets
    for expression, number in wanted.items():
        samples = [{"labels": "{}", "value": number}] if number else []
        yield {"expr": expression, "eval_time": asked["eval_time"], "exp_samples": samples}


@pytest.mark.prometheus
@pytest.mark.timeout(300)  # all suites in a row; seconds on an idle machine
@pytest.mark.parametrize("way", WAYS)
def test_no_label_changes_an_alert(way: str, found_promtool: Callable[..., str], tmp_path: Path) -> None:
    """A join on equal labels goes empty with the first label that only one side has, and its alert cries or sleeps.

    Whoever is woken must find the target: what labels it has are on the alert.
    """
    changed = 0
    for cases in CASES:
        suite, folder = read_suite(cases), tmp_path / cases.stem
        suite["tests"] = [new for test in suite["tests"] if (new := relabelled(test, way))]
        folder.mkdir()
        if suite["tests"]:
            found_promtool("test", "rules", *write_narrowed(suite, folder))
        changed += len(suite["tests"])
    assert changed > 20


def joins(expression: str) -> Iterator[tuple[str, str | None]]:
    """Yield the operator of each set operation between two vectors, and the labels that it is said to be on."""
    found: list[promql_parser.BinaryExpr] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.BinaryExpr):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    for node in found:
        if str(node.op) in {"and", "unless"}:
            matching = node.modifier.matching if node.modifier else None
            yield str(node.op), ", ".join(matching.labels) if matching else None


def loose_joins(rule: str, expression: str) -> Iterator[str]:
    """Yield what a rule matches or sums on every label, or on labels that do not identify what the rule is about."""
    yield from (f"{operator} on (None)" for operator, labels in joins(expression) if labels is None)
    yield from set(MATCHING.findall(expression)) - OF_A_TARGET - LOOSER.get(rule, set())


def test_row_28_every_join_says_on_what() -> None:
    """What a set operation matches by default is every label, of metrics that need not have the same ones.

    With a label too few, one target in half of a trouble and one in the other half make an alert together.
    """
    found = [(rule, loose) for rule, text in RULES for loose in loose_joins(rule, text)]
    assert found == [], f"targets are known by {TARGET_LABELS}"
    assert list(loose_joins("x", "a and b")) == ["and on (None)"]
    assert list(loose_joins("x", "a unless on (run, experiment, arm) b")) == ["run, experiment, arm"]
    assert list(loose_joins("VllmDown", "a unless on (run, experiment, arm) b")) == []
    assert sum(1 for _, text in RULES for _ in joins(text)) > 10
