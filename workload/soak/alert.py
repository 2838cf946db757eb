"""Alerts as Alertmanager tells them: in a webhook message of version 4, and in its API."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

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
    def action(self) -> str:
        """What the alert asks for; empty for one that only informs."""
        return self.labels.get("action", "")

    @property
    def age(self) -> tuple[float, bool]:
        """Orders the messages of one fingerprint: of one firing the end is later than the beginning."""
        return self.starts_at.timestamp(), self.status == "resolved"


class Message(BaseModel):
    """A message of Alertmanager's webhook, version 4 of its schema."""

    model_config = ConfigDict(frozen=True)

    version: Literal["4"]
    group_key: Text = Field(alias="groupKey")
    truncated_alerts: int = Field(alias="truncatedAlerts", default=0, ge=0)
    alerts: list[Alert] = Field(min_length=1, max_length=10_000)

    @property
    def key(self) -> str:
        """What makes two messages the same: the group, and of each alert its fingerprint, status and beginning."""
        alerts = sorted((alert.fingerprint, alert.status, alert.starts_at.isoformat()) for alert in self.alerts)
        return hashlib.sha256(json.dumps([self.group_key, alerts]).encode()).hexdigest()


def from_api(found: dict[str, Any]) -> Alert:
    """Return an alert of `GET /api/v2/alerts`, which tells only of those that fire.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return Alert.model_validate({**found, "status": "firing"})
