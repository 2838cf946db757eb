"""The alerts that may steer a run, read from the rules that Prometheus evaluates: a closed set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from workload.paths import asset
from workload.soak.alert import ACTIONS, WATCHDOG

if TYPE_CHECKING:
    from pathlib import Path


def steering_alerts(folder: Path | None = None) -> frozenset[tuple[str, str]]:
    """Return (action, alert) of each rule in `folder` (default: those shipped) with an action, and the heartbeat's."""
    files = sorted((folder or asset("prometheus/alerts")).glob("*.yml"))
    rules = (rule for file in files for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"])
    found = {(rule["labels"].get("action"), rule["alert"]) for rule in rules if "alert" in rule}
    return frozenset({*((action, name) for action, name in found if action in ACTIONS), ("pause", WATCHDOG)})
