"""The rules that an alert is made of: promtool evaluates every rule of a file every second, and a case needs few."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Json = dict[str, Any]

NAME = re.compile(r"[\w:]+")


def read_suite(cases: Path) -> Json:
    """Read a suite of rule tests; its rule files become absolute."""
    suite: Json = yaml.load(cases.read_text(), Loader=yaml.CSafeLoader)
    return suite | {"rule_files": [str((cases.parent / file).resolve()) for file in suite["rule_files"]]}


def write_narrowed(suite: Json, folder: Path) -> Iterator[Path]:
    """Write a suite once for each set of alerts that its tests expect, with the rules that these alerts read.

    Yields the files for promtool.
    """
    files = [yaml.load(Path(file).read_text(), Loader=yaml.CSafeLoader) for file in suite["rule_files"]]
    groups = [group for file in files for group in file["groups"]]
    known = {name_of(rule) for group in groups for rule in group["rules"] if "alert" in rule}
    by_alerts: dict[frozenset[str], list[Json]] = {}
    for test in suite["tests"]:
        expected = str(test.get("alert_rule_test") or test["promql_expr_test"])
        by_alerts.setdefault(frozenset(known.intersection(NAME.findall(expected))), []).append(test)
    for number, (alerts, tests) in enumerate(by_alerts.items()):
        rules, path = folder / f"rules-{number}.yml", folder / f"test-{number}.yml"
        rules.write_text(json.dumps({"groups": list(narrowed(groups, alerts))}))
        path.write_text(json.dumps(suite | {"rule_files": [str(rules)], "tests": tests}))
        yield path


def narrowed(groups: list[Json], alerts: Iterable[str]) -> Iterator[Json]:
    """Yield the groups with no other rules than these alerts and what they read, directly or not."""
    read: dict[str, set[str]] = {}
    for rule in (rule for group in groups for rule in group["rules"]):
        read.setdefault(name_of(rule), set()).update(NAME.findall(rule["expr"]))
    needed, found = set(alerts), set(alerts)
    while found:
        found = {name for each in found for name in read[each] & read.keys()} - needed
        needed |= found
    for group in groups:
        yield group | {"rules": [rule for rule in group["rules"] if name_of(rule) in needed]}


def name_of(rule: Json) -> str:
    """Return what a rule is called; an alert may have several rules, such as one for each window of a burn rate."""
    return str(rule.get("alert") or rule["record"])
