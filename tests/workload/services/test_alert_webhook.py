"""The address that Alertmanager calls, against callers that are not Alertmanager."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from exporter.agent.soak import REQUESTS
from tests.stubs.alerts import alert, body, message
from workload.errors import DependencyDownError, StorageError
from workload.services.alert import Notification
from workload.services.alert_webhook import MAX_BODY_BYTES, webhook
from workload.soak.alert_watch import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.workload.conftest import Helm

TOKEN = "a-token-of-this-test"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
GOOD = body(alert("VllmDown", "pause"))


class Caller:
    """Calls a webhook whose receiver notes what it gets."""

    def __init__(self) -> None:
        self.received: list[Notification] = []
        self.outcomes: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.app = webhook(TOKEN, self.receive, lambda outcome: self.outcomes.update([outcome]))

    async def receive(self, found: Notification) -> bool:
        """Take a message."""
        if self.failure:
            raise self.failure
        self.received.append(found)
        return len(self.received) == 1

    async def post(self, content: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        """Post a body."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://runner") as client:
            return await client.post("/alerts", content=content, headers=RIGHT if headers is None else headers)


async def test_a_message_is_taken_and_a_repetition_is_thanked_for() -> None:
    """Alertmanager repeats what is not answered with 2xx."""
    caller = Caller()
    codes = [(await caller.post(json.dumps(GOOD))).status_code for _ in range(2)]
    assert codes == [200, 200]
    assert caller.outcomes == {"accepted": 1, "duplicate": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"bearer {TOKEN}"},
        {"Authorization": "Bearer "},
    ],
)
async def test_row_12_whoever_has_no_token_does_nothing(headers: dict[str, str]) -> None:
    """Everybody on the host can reach the port; the body is not even read."""
    caller = Caller()
    answer = await caller.post(json.dumps(GOOD), headers)
    assert answer.status_code == 401
    assert TOKEN not in answer.text
    assert caller.received == []
    assert caller.outcomes == {"unauthorized": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**GOOD, "version": "5"}),
        json.dumps({**GOOD, "alerts": []}),
        json.dumps({**GOOD, "alerts": [{"status": "maybe"}]}),
        json.dumps({**GOOD, "alerts": [{**GOOD["alerts"][0], "startsAt": "yesterday"}]}),
        json.dumps({**GOOD, "alerts": [{**GOOD["alerts"][0], "startsAt": "2025-01-31T12:00:00"}]}),
        json.dumps({key: value for key, value in GOOD.items() if key != "groupKey"}),
        json.dumps({**GOOD, "groupKey": "x" * 5000}),
    ],
)
async def test_row_11_a_malformed_message_is_refused(content: bytes | str) -> None:
    """Half-understood is worse than refused: Alertmanager then logs it, and nothing is done."""
    caller = Caller()
    assert (await caller.post(content)).status_code == 400
    assert caller.received == []
    assert caller.outcomes == {"malformed": 1}


async def test_row_11_a_huge_body_is_refused_before_it_is_read() -> None:
    """50 MB are not kept in memory to find out that they are no message."""
    caller = Caller()
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += MAX_BODY_BYTES
            yield b"x" * MAX_BODY_BYTES

    assert (await caller.post(chunks())).status_code == 413
    assert sent <= 3 * MAX_BODY_BYTES
    assert caller.outcomes == {"too_large": 1}


async def test_a_caller_that_goes_away_in_mid_body_is_a_malformed_message() -> None:
    """It left a traceback in the log of an eight-hour run, each time."""
    caller = Caller()
    reported: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(part: Any) -> None:
        reported.append(part)

    headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": "/alerts", "query_string": b"", "headers": headers}
    await caller.app(scope, receive, send)
    assert reported[0]["status"] == 400
    assert caller.received == []


async def test_what_is_not_on_disk_is_not_acknowledged() -> None:
    """Alertmanager then sends it again, perhaps to a runner that can write."""
    caller = Caller()
    caller.failure = StorageError("The disk is full.")
    assert (await caller.post(json.dumps(GOOD))).status_code == 503
    assert not caller.outcomes


def test_an_empty_token_opens_nothing() -> None:
    """An empty token file would let `Bearer ` in."""
    with pytest.raises(ValueError, match="everyone"):
        webhook("", Caller().receive, lambda _: None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_json_comes_it_is_refused_in_order(value: Any) -> None:
    """The parser raises nothing but its own refusal."""
    with pytest.raises(ValueError, match="validation error"):
        Notification.model_validate_json(json.dumps(value))


@given(st.permutations([alert("VllmDown", "pause"), alert("VllmHung", "pause"), alert("GpuLost", "pause", second=5)]))
def test_the_key_does_not_depend_on_the_order(alerts: list[dict[str, Any]]) -> None:
    """The same group in another order is the same message; another state of one alert is not."""
    same = message(*sorted(alerts, key=lambda one: str(one["fingerprint"])))
    group = {"groupKey": "g"}
    keys = {Notification.model_validate(body(*order, **group)).key for order in (alerts, alerts[::-1])}
    assert len(keys) == 1
    ended = [{**alerts[0], "status": "resolved"}, *alerts[1:]]
    assert Notification.model_validate(body(*ended, **group)).key not in keys
    assert same.key != Notification.model_validate(body(*alerts, **group)).key


async def test_row_11_over_a_socket_a_thousand_duplicates_are_one_action(helm: Callable[..., Helm]) -> None:
    """The same through uvicorn's thread and the loop of the soak, with a flood of callers without a token between."""
    bridge = helm()
    async with served(bridge.steering, bridge.metrics, TOKEN, 0) as address:

        def flood(number: int) -> Counter[int]:
            with requests.Session() as session:
                session.trust_env = False
                headers = ({}, RIGHT)
                return Counter(
                    session.post(f"http://{address}/alerts", json=GOOD, headers=headers[n % 2], timeout=60).status_code
                    for n in range(number)
                )

        found = await asyncio.gather(*(asyncio.to_thread(flood, 500) for _ in range(4)))
    assert sum(found, Counter()) == {200: 1000, 401: 1000}
    assert bridge.actions() == [("pause", "VllmDown", "taken")]
    reported = {
        outcome: bridge.registry.get_sample_value("hop2rag_soak_webhook_requests_total", {"outcome": outcome})
        for outcome in REQUESTS
    }
    assert reported == {"accepted": 1, "duplicate": 999, "unauthorized": 1000, "malformed": 0, "too_large": 0}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9096", ""])
async def test_a_page_in_a_browser_is_refused_even_with_the_token(origin: str) -> None:
    """A browser sends a page's origin, Alertmanager does not; and no header lets a page read an answer."""
    caller = Caller()
    answer = await caller.post(json.dumps(GOOD), {**RIGHT, "Origin": origin})
    assert answer.status_code == 403
    assert caller.received == []
    transport = httpx.ASGITransport(caller.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = await client.options("/alerts", headers=asks)
    for response in (answer, preflight):
        assert not [name for name in response.headers if name.startswith("access-control")]
    assert preflight.status_code == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9096", 200),
        ("[::1]:9096", 200),
        ("localhost:9096", 200),
        ("workload:9096", 200),
        ("workload", 200),
        ("workload.observatory.svc.cluster.local:9096", 200),
        ("evil.example:9096", 403),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:9096", 403),
        ("evil.example.:9096", 403),
        ("local.evil.example:9096", 403),
    ],
)
async def test_a_name_that_was_made_to_lead_here_is_refused(host: str, status: int) -> None:
    """DNS rebinding: a page's own name leads to 127.0.0.1, and the browser takes the webhook for the page's server."""
    assert (await Caller().post(json.dumps(GOOD), {**RIGHT, "Host": host})).status_code == status


async def test_what_cannot_be_confirmed_is_sent_again() -> None:
    """2xx would make Alertmanager forget it for minutes."""
    caller = Caller()
    caller.failure = DependencyDownError("Prometheus does not answer.")
    assert (await caller.post(json.dumps(GOOD))).status_code == 503
    assert not caller.outcomes


GRAFANA = {
    **body(alert("VllmDown", "pause")),
    "version": "1",
    "orgId": 1,
    "state": "alerting",
    "title": "[FIRING:1]",
    "message": "**Firing**",
}


def grafana(stamp: int, *alerts: dict[str, Any]) -> str:
    """Return a message as Grafana's contact point sends it, with the time in the name of its group."""
    odd = {"values": None, "generatorURL": "", "silenceURL": "", "dashboardURL": "", "panelURL": "", "valueString": ""}
    return json.dumps({**GRAFANA, "groupKey": f"test-{stamp}-{stamp}", "alerts": [{**one, **odd} for one in alerts]})


async def test_grafanas_own_alerts_are_understood_and_reported_once(helm: Callable[..., Helm]) -> None:
    """It calls its version 1; refused with 400 it came again and again, and said so in Grafana's log."""
    bridge = helm()
    first, again = (
        Notification.model_validate_json(grafana(stamp, alert("VllmDown", "pause")))
        for stamp in (1_700_000_000, 1_700_000_060)
    )
    assert [await bridge.steering.receive(one) for one in (first, again)] == [True, False]
    caller = Caller()
    assert (await caller.post(grafana(1, alert("VllmDown", "pause")))).status_code == 200


async def test_grafanas_alerts_steer_nothing_that_prometheus_does_not_confirm(helm: Callable[..., Helm]) -> None:
    """They are evaluated elsewhere, by rules that are none of ours."""
    bridge = helm(fires=set())
    await bridge.steering.receive(Notification.model_validate_json(grafana(1, alert("VllmDown", "pause"))))
    assert bridge.pace.pauses == set()


async def test_the_test_button_of_grafana_does_nothing(helm: Callable[..., Helm]) -> None:
    """Whoever sets the contact point up presses it, and must see that it works."""
    bridge = helm()
    caller = Caller()
    content = grafana(1, alert("TestAlert", "", instance="Grafana"))
    assert (await caller.post(content)).status_code == 200
    await bridge.steering.receive(Notification.model_validate_json(content))
    assert (bridge.actions(), bridge.pace.pauses) == ([], set())
