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

ALERT = re.compile(r'alertname="(\w+)"')
NAME = re.compile(r"[\w:]+")


def written(suite: Json, folder: Path) -> Iterator[Path]:
    """Write a suite of rule tests, whose rule files are absolute, once for each set of alerts that its tests expect.

    Each time beside the rules that these alerts read; yields the files for promtool.
    """
    files = [yaml.safe_load(Path(file).read_text()) for file in suite["rule_files"]]
    by_alerts: dict[frozenset[str], list[Json]] = {}
    for test in suite["tests"]:
        named = frozenset(name for each in test["promql_expr_test"] for name in ALERT.findall(each["expr"]))
        by_alerts.setdefault(named, []).append(test)
    for number, (alerts, tests) in enumerate(by_alerts.items()):
        rules, path = folder / f"rules-{number}.yml", folder / f"test-{number}.yml"
        groups = list(narrowed([group for file in files for group in file["groups"]], alerts))
        rules.write_text(json.dumps({"groups": groups}))
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
