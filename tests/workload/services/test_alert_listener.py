"""What the continuous load hears of alerts: each change once, in any order, and nothing for ever."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import httpx
import pytest
from rich.console import Console

from tests.stubs.alerts import alert, body, message
from workload.errors import UsageError
from workload.services import alert_listener as notices_module
from workload.services.alert_listener import FORGET_SECONDS, AlertListener

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time."""
    return Clock()


@pytest.fixture
def said() -> io.StringIO:
    """What was reported."""
    return io.StringIO()


@pytest.fixture
def listener(clock: Clock, said: io.StringIO) -> AlertListener:
    """Nothing heard yet."""
    return AlertListener(Console(file=said, width=200), list, clock)


async def test_a_pause_holds_until_it_is_resolved(listener: AlertListener, said: io.StringIO) -> None:
    """A repetition is reported once, and an alert that only informs pauses nothing."""
    firing, informing = alert("VllmDown", "pause"), alert("VllmQueueGrowing", "reduce")
    assert await listener.receive(message(firing, informing))
    assert not await listener.receive(message(firing))
    assert listener.pausing() == ["VllmDown"]
    assert await listener.receive(message(alert("VllmDown", "pause", status="resolved")))
    assert listener.pausing() == []
    assert said.getvalue().count("firing: VllmDown (asks for: pause)") == 1
    assert "resolved: VllmDown" in said.getvalue()


async def test_a_late_message_changes_nothing(listener: AlertListener) -> None:
    """Alertmanager sends again what failed, so the beginning may come after the end."""
    await listener.receive(message(alert("VllmDown", "pause", status="resolved")))
    assert not await listener.receive(message(alert("VllmDown", "pause")))
    assert listener.pausing() == []


async def test_an_end_that_was_lost_pauses_nothing_for_ever(listener: AlertListener, clock: Clock) -> None:
    """What fires is sent again every five minutes; silence means that it no longer does."""
    await listener.receive(message(alert("VllmDown", "pause")))
    clock.now = FORGET_SECONDS - 1
    assert listener.pausing() == ["VllmDown"]
    clock.now += 1
    assert listener.pausing() == []


def test_only_alertmanager_is_heard(listener: AlertListener, tmp_path: Path) -> None:
    """Any host on the network could pause the load, or let it run into a full pool."""
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    content = body(alert("VllmDown", "pause"))
    with listener.listening("127.0.0.1:0", token) as address:
        url = f"http://{address}/alerts"
        assert httpx.post(url, json=content).status_code == 401
        assert listener.pausing() == []
        assert httpx.post(url, json=content, headers={"Authorization": "Bearer t0ken"}).status_code == 200
    assert listener.pausing() == ["VllmDown"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", None])
def test_without_a_token_no_message_is_heard(listener: AlertListener, tmp_path: Path, content: bytes | None) -> None:
    """An empty token would let everybody in."""
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    with pytest.raises(UsageError, match="token"):
        listener.listening("127.0.0.1:0", token).__enter__()


@pytest.mark.parametrize(
    ("name", "action"),
    [("SomebodyElses", "pause"), ("VllmDown", "stop"), ("VllmQueueGrowing", "pause"), ("Hop2RagWatchdog", "stop")],
)
async def test_only_the_rules_say_what_holds(listener: AlertListener, name: str, action: str) -> None:
    """The label comes with the message: any sender could pause the load by any alert."""
    await listener.receive(message(alert(name, action)))
    assert listener.pausing() == []


async def test_what_prometheus_does_not_report_pauses_nothing(said: io.StringIO, clock: Clock) -> None:
    """Alertmanager takes alerts from anybody who reaches it."""
    fires: list[str] = []
    listener = AlertListener(Console(file=said), lambda alerts: [one for one in alerts if one.name in fires], clock)
    await listener.receive(message(alert("VllmDown", "pause")))
    assert listener.pausing() == []
    fires.append("VllmDown")
    await listener.receive(message(alert("VllmDown", "pause")))
    assert listener.pausing() == ["VllmDown"]


async def test_what_is_remembered_is_bounded(listener: AlertListener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the ten minutes for which an alert is remembered anybody could send any number."""
    monkeypatch.setattr(notices_module, "MOST_ALERTS", 8)
    await listener.receive(message(*[alert("VllmDown", "pause", instance=str(number)) for number in range(50)]))
    assert len(listener._newest) == 8
    assert listener.pausing() == ["VllmDown"]


async def test_a_clock_that_was_set_back_hides_no_alert(listener: AlertListener) -> None:
    """Every later beginning is "older" than the one that ended while the clock ran ahead; and so is every end."""
    for status in ("firing", "resolved"):
        await listener.receive(message(alert("VllmDown", "pause", status, second=3600)))
    assert await listener.receive(message(alert("VllmDown", "pause", second=60)))
    assert listener.pausing() == ["VllmDown"]
    await listener.receive(message(alert("VllmDown", "pause", "resolved", second=60)))
    assert listener.pausing() == []
