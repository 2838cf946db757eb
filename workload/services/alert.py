"""Alerts, from the webhook notifications of Alertmanager or Grafana and from Alertmanager's API."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from workload.paths import asset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ACTIONS = ("capture", "reduce", "pause", "stop")
WATCHDOG = "Hop2RagWatchdog"
"""The alert that always fires; its silence means that alerts no longer arrive."""

Text = Annotated[str, Field(max_length=4096)]
Labels = dict[Text, Text]
Confirm: TypeAlias = "Callable[[Sequence[Alert]], list[Alert]]"


class Alert(BaseModel):
    """One alert at one moment, with the fields that are needed here."""

    model_config = ConfigDict(frozen=True)

    status: Literal["firing", "resolved"]
    labels: Labels
    starts_at: AwareDatetime = Field(alias="startsAt")
    fingerprint: Text

    @property
    def name(self) -> str:
        """The alert's name; empty if it has none."""
        return self.labels.get("alertname", "")

    @property
    def is_firing(self) -> bool:
        """Whether the alert fired when the notification was sent."""
        return self.status == "firing"

    @property
    def action(self) -> str:
        """The action that the alert asks for, empty if it only informs; the rules decide whether it may."""
        return self.labels.get("action", "")

    @property
    def order(self) -> tuple[float, bool]:
        """The order of notifications of one fingerprint: a firing's end comes after its beginning."""
        return self.starts_at.timestamp(), not self.is_firing


class Notification(BaseModel):
    """A notification by Alertmanager's webhook (schema version 4) or by Grafana's alerting (version 1)."""

    model_config = ConfigDict(frozen=True)

    version: Literal["4", "1"]
    group_key: Text = Field(alias="groupKey")
    truncated_alerts: int = Field(alias="truncatedAlerts", default=0, ge=0)
    alerts: list[Alert] = Field(min_length=1, max_length=10_000)

    @property
    def key(self) -> str:
        """Identifies repeated notifications by the group and each alert's fingerprint, status and beginning.

        Grafana's group key may contain the time, so it is left out.
        """
        group = self.group_key if self.version == "4" else ""
        alerts = sorted((alert.fingerprint, alert.status, alert.starts_at.isoformat()) for alert in self.alerts)
        return hashlib.sha256(json.dumps([group, alerts]).encode()).hexdigest()


def from_api(found: Any) -> Alert:
    """Return an alert of `GET /api/v2/alerts`, which lists only firing ones.

    Raises:
        pydantic.ValidationError: `found` is not an alert.
    """
    return Alert.model_validate({**found, "status": "firing"} if isinstance(found, dict) else found)


def readable(found: Iterable[Any]) -> tuple[list[Alert], int]:
    """Return the readable alerts of `GET /api/v2/alerts`, and the number of unreadable ones.

    Other senders share the Alertmanager: one odd alert of theirs must not hide ours.
    """
    alerts, unreadable = [], 0
    for one in found:
        try:
            alerts.append(from_api(one))
        except ValidationError:
            unreadable += 1
    return alerts, unreadable


def confirmer(firing: Callable[[], Sequence[Mapping[str, str]]]) -> Confirm:
    """Return a function that keeps the alerts whose state Prometheus confirms; it blocks and raises as `firing`.

    Anyone can post to Alertmanager. So a firing alert is kept only if Prometheus has it firing, and a resolved one only
    if Prometheus does not.
    """

    def confirm(alerts: Sequence[Alert]) -> list[Alert]:
        now = firing()
        return [alert for alert in alerts if any(_is_of(alert, labels) for labels in now) == alert.is_firing]

    return confirm


def _is_of(alert: Alert, labels: Mapping[str, str]) -> bool:
    """Return whether an alert has those labels; Prometheus may add its external labels, but no action."""
    return labels.get("action") == alert.labels.get("action") and labels.items() <= alert.labels.items()


def steering_alerts() -> frozenset[tuple[str, str]]:
    """Return (action, alert) of each shipped rule with an action, and the watchdog's."""
    files = asset("prometheus/alerts").glob("*.yml")
    groups = (group for file in files for group in yaml.safe_load(file.read_text())["groups"])
    rules = (rule for group in groups for rule in group["rules"] if "alert" in rule)
    found = ((rule["labels"].get("action"), rule["alert"]) for rule in rules)
    return frozenset({*((action, name) for action, name in found if action in ACTIONS), ("pause", WATCHDOG)})
