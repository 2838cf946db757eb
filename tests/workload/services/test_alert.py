"""Whether an alert is Prometheus' own: the same one, doing what the message says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.alerts import alert, body
from workload.errors import DependencyDownError
from workload.services.alert import Notification, confirmer

if TYPE_CHECKING:
    from workload.services.alert import Alert

OWN = {"alertname": "VllmDown", "severity": "critical", "action": "pause", "instance": "a", "run": "r"}


def reported(labels: dict[str, str], status: str = "firing") -> Alert:
    """Return an alert as a message has it."""
    found = {**alert("VllmDown", "pause", status), "labels": labels}
    return Notification.model_validate_json(json.dumps(body(found))).alerts[0]


@pytest.mark.parametrize(
    ("labels", "is_true"),
    [
        (OWN, True),
        ({**OWN, "cluster": "x", "prometheus": "y"}, True),
        ({**OWN, "instance": "b"}, False),
        ({**OWN, "alertname": "VllmHung"}, False),
        ({**OWN, "action": "stop"}, False),
        ({name: value for name, value in OWN.items() if name != "instance"}, False),
    ],
    ids=["the same", "with external labels", "another instance", "another name", "another action", "a label less"],
)
def test_an_alert_fires_where_prometheus_has_it(labels: dict[str, str], is_true: bool) -> None:
    """Somebody's alert of the same name is not the one that the rules found; external labels come on top of its own."""
    confirm = confirmer(lambda: [{"alertname": "Hop2RagWatchdog", "severity": "none"}, OWN])
    assert bool(confirm([reported(labels)])) is is_true
    assert bool(confirm([reported(labels, "resolved")])) is not is_true


def test_row_24_an_alert_without_an_action_is_given_none_by_a_message() -> None:
    """The watchdog always fires: with an action added it would confirm whatever it was made to ask for."""
    own = {"alertname": "Hop2RagWatchdog", "severity": "none"}
    assert confirmer(lambda: [own])([reported({**own, "action": "stop"})]) == []


def test_row_24_who_cannot_be_asked_confirms_nothing() -> None:
    """It is no answer that nothing fires."""

    def silent() -> Any:
        raise DependencyDownError("Prometheus does not answer.")

    with pytest.raises(DependencyDownError):
        confirmer(silent)([reported(OWN)])
