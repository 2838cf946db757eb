"""Alerts as Alertmanager, or Grafana in its place, tells them: in a webhook message, and in Alertmanager's API."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ACTIONS = ("capture", "reduce", "pause", "stop")
WATCHDOG = "Hop2RagWatchdog"
"""The alert that always fires: who steers by alerts takes its silence as "nobody is watching"."""

Text = Annotated[str, Field(max_length=4096)]
Labels = dict[Text, Text]


class Alert(BaseModel):
    """One alert at one moment. What else Alertmanager tells of it is not needed here."""

    model_config = ConfigDict(frozen=True)

    status: Literal["firing", "resolved"]
    labels: Labels
    starts_at: AwareDatetime = Field(alias="startsAt")
    fingerprint: Text

    @property
    def name(self) -> str:
        """The alert's name; empty for one that has none."""
        return self.labels.get("alertname", "")

    @property
    def is_firing(self) -> bool:
        """Whether it fires, or did when this was told."""
        return self.status == "firing"

    @property
    def action(self) -> str:
        """What the alert says that it asks for; the rules alone tell what it may. Empty for one that only informs."""
        return self.labels.get("action", "")

    @property
    def order(self) -> tuple[float, bool]:
        """Orders the messages of one fingerprint: of one firing the end is later than the beginning."""
        return self.starts_at.timestamp(), not self.is_firing


class Notification(BaseModel):
    """A message of Alertmanager's webhook, version 4 of its schema, or of Grafana's own alerting, which calls it 1."""

    model_config = ConfigDict(frozen=True)

    version: Literal["4", "1"]
    group_key: Text = Field(alias="groupKey")
    truncated_alerts: int = Field(alias="truncatedAlerts", default=0, ge=0)
    alerts: list[Alert] = Field(min_length=1, max_length=10_000)

    @property
    def key(self) -> str:
        """What makes two messages the same: the group, and of each alert its fingerprint, status and beginning.

        Grafana may put the time into the name of the group: of its messages the alerts alone tell.
        """
        group = self.group_key if self.version == "4" else ""
        alerts = sorted((alert.fingerprint, alert.status, alert.starts_at.isoformat()) for alert in self.alerts)
        return hashlib.sha256(json.dumps([group, alerts]).encode()).hexdigest()


def from_api(found: Any) -> Alert:
    """Return an alert of `GET /api/v2/alerts`, which tells only of those that fire.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return Alert.model_validate({**found, "status": "firing"} if isinstance(found, dict) else found)


def readable(found: Iterable[Any]) -> tuple[list[Alert], int]:
    """Return the alerts of `GET /api/v2/alerts` that can be read, and how many cannot.

    Alertmanager serves others too: one odd alert of theirs must not hide ours.
    """
    alerts, unreadable = [], 0
    for one in found:
        try:
            alerts.append(from_api(one))
        except ValidationError:
            unreadable += 1
    return alerts, unreadable


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
