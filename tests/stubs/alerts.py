"""Messages of Alertmanager's webhook, as it sends them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from workload.services.alert import Notification

BEGINNING = datetime(2025, 1, 31, 12, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"
RUN = "20250131-235959-soak"


def alert(name: str, action: str, status: str = "firing", second: int = 0, **labels: str) -> dict[str, Any]:
    """Return an alert that began at some second, and ended a minute later if it is resolved."""
    begun = BEGINNING + timedelta(seconds=second)
    ended = (begun + timedelta(minutes=1)).isoformat() if status == "resolved" else NEVER
    own = {"alertname": name, "severity": "critical", **({"action": action} if action else {}), **labels}
    return {
        "status": status,
        "labels": own,
        "annotations": {"summary": "s"},
        "startsAt": begun.isoformat(),
        "endsAt": ended,
        "generatorURL": "http://prometheus.invalid/graph",
        "fingerprint": f"{name}-{labels.get('instance', '')}",
    }


def body(*alerts: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Return a message of alerts as JSON has it."""
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{alerts[0]['labels']['alertname'] if alerts else ''}}}",
        "truncatedAlerts": 0,
        "status": alerts[0]["status"] if alerts else "firing",
        "receiver": "runner",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.invalid",
        "alerts": list(alerts),
        **parts,
    }


def message(*alerts: dict[str, Any]) -> Notification:
    """Return a message of alerts, parsed."""
    return Notification.model_validate_json(json.dumps(body(*alerts)))
