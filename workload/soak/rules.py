"""The alerts that may steer a run, read from the rules that Prometheus evaluates: a closed set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from workload.paths import asset
from workload.services.alert import ACTIONS, WATCHDOG

if TYPE_CHECKING:
    from pathlib import Path


def alert_names(folder: Path | None = None) -> frozenset[str]:
    """Return the name of every alert of the rules, those that only inform included."""
    return frozenset(rule["alert"] for rule in _alerts(folder))


def steering_alerts(folder: Path | None = None) -> frozenset[tuple[str, str]]:
    """Return (action, alert) of each rule in `folder` (default: those shipped) with an action, and the heartbeat's."""
    found = {(rule["labels"].get("action"), rule["alert"]) for rule in _alerts(folder)}
    return frozenset({*((action, name) for action, name in found if action in ACTIONS), ("pause", WATCHDOG)})


def _alerts(folder: Path | None) -> list[dict[str, Any]]:
    files = sorted((folder or asset("prometheus/alerts")).glob("*.yml"))
    groups = (group for file in files for group in yaml.safe_load(file.read_text())["groups"])
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]
