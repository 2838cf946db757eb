"""Rows 6, 11, 12 and 13 with the real Prometheus and the real Alertmanager around a soak of the stub engine."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.stubs.alerts import alert, body
from tests.stubs.soak import soak_session
from tests.stubs.vllm import StubVllm, Turn
from workload.errors import MissingPartError
from workload.paths import cache_dir
from workload.record.journal import read
from workload.services.alert_webhook import PATH
from workload.services.alertmanager import LocalAlertmanager
from workload.services.process import HOST, free_port
from workload.services.prometheus_binary import find_alertmanager, find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.soak.record import SoakRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workload.soak.session import SoakSession

LIMIT_SECONDS = 15.0
SETTLE_SECONDS = 60.0

pytestmark = [pytest.mark.faults, pytest.mark.prometheus, pytest.mark.timeout(240)]


@dataclass
class World:
    """The stub engine, the real watchers, and the soak between them."""

    stub: StubVllm
    alertmanager: LocalAlertmanager
    webhook: str
    whole: SoakSession

    def actions(self) -> list[dict[str, Any]]:
        """Return what was done so far."""
        has_begun = (self.whole.bundle.folder / "checkpoint.json").exists()
        if not has_begun:
            return []
        record = SoakRecord(self.whole.bundle.journal)  # opened for reading while it is written
        return [dict(row) for row in record.rows("SELECT at, action, alert, status, detail FROM action ORDER BY rowid")]

    def wait_for(self, action: str, name: str, seconds: float) -> dict[str, Any]:
        """Return an action once it is in the journal."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for row in self.actions():
                if (row["action"], row["alert"]) == (action, name):
                    return row
            time.sleep(0.1)
        raise AssertionError(f"no {action} by {name} within {seconds:g} s: {self.actions()}")

    def post(self, alerts: dict[str, Any], token: str, times: int) -> Counter[int]:
        """Call the webhook as Alertmanager does, again and again; return how often each status came."""
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {token}"}
            return Counter(
                session.post(self.webhook, json=alerts, headers=headers, timeout=60).status_code for _ in range(times)
            )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world that is up."""
    try:
        binary = find_alertmanager(cache_dir())
    except MissingPartError as error:
        pytest.skip(str(error))
    port = free_port()
    webhook = f"http://{HOST}:{port}{PATH}"
    with ExitStack() as stack:
        stub = stack.enter_context(StubVllm())
        stub.script = lambda _: Turn(seconds=0.02)
        session = stack.enter_context(loopback_session())
        alertmanager = LocalAlertmanager(binary, tmp_path, session, port=free_port(), webhook=webhook)
        stack.enter_context(alertmanager)
        prometheus = LocalPrometheus(
            find_prometheus(cache_dir()),
            tmp_path,
            session,
            port=free_port(),
            sample_interval_ms=1000,
            alertmanager=alertmanager.address,
        )
        stack.enter_context(prometheus)
        flags = {"duration": "3m", "concurrency": 2}
        whole = soak_session(
            stub.url, tmp_path, flags, prometheus=prometheus, alertmanager=alertmanager, webhook_port=port
        )
        yield World(stub, alertmanager, webhook, whole)


def steer(world: World, script: Callable[[], None]) -> None:
    """Run the soak and a script at the same time, and end the soak in order when the script has ended, well or not."""
    ended = Event()

    def run() -> None:
        while not (world.whole.bundle.folder / "checkpoint.json").exists():
            if ended.wait(0.1):
                return  # it never began
        try:
            script()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(max_workers=1) as script_thread:
        scripted = script_thread.submit(run)
        try:
            finished = world.whole.run()
        finally:
            ended.set()
        scripted.result()
    assert finished.exit_code == 130
    account = finished.summary["accounting"]
    assert account["sent"] == account["ok"] + sum(account["failed"].values()) + account["cancelled"]


def test_rows_06_and_13_from_the_condition_to_the_action_and_back(world: World) -> None:
    """An engine that is gone: the alert pauses the run within 15 s, and both its end and a canary let it go on."""
    reported: dict[str, float] = {}

    def script() -> None:
        time.sleep(2)
        began = time.time()
        world.stub.die()
        reported["pause"] = world.wait_for("pause", "VllmDown", SETTLE_SECONDS)["at"] - began
        world.stub.live()
        world.wait_for("lift", "VllmDown", SETTLE_SECONDS)
        time.sleep(1)

    steer(world, script)
    print(f"condition to action: {reported['pause']:.1f} s")
    assert reported["pause"] <= LIMIT_SECONDS
    rows = read(world.whole.bundle.journal, "question")
    lifted = next(row["at"] for row in world.actions() if row["action"] == "lift")
    paused = next(row["at"] for row in world.actions() if row["action"] == "pause")
    assert [row for row in rows if paused + 0.5 < row["started_at"] < lifted] == []
    assert any(row["started_at"] > lifted and row["outcome"] == "ok" for row in rows)


def test_rows_11_and_12_a_thousand_duplicates_and_strangers(world: World) -> None:
    """One action for a thousand messages, none for whoever lacks the token, while the real Alertmanager goes on.

    With the token, too, nothing changes the load that the real Prometheus does not confirm.
    """
    codes: Counter[int] = Counter()

    def script() -> None:
        capture = body(alert("VllmKvCacheNearlyFull", "capture"))
        forged = body(
            alert("VllmQueueGrowing", "reduce"), alert("VllmHung", "pause"), alert("DiskWritesFailing", "stop")
        )
        for _ in range(10):
            codes.update(world.post(capture, world.alertmanager.token, 100))
            codes.update(world.post(forged, world.alertmanager.token, 2))
            codes.update(world.post(body(alert("DiskWritesFailing", "stop")), "guessed", 20))

    steer(world, script)
    assert codes == {200: 1020, 401: 200}
    taken = [(row["action"], row["alert"]) for row in world.actions() if row["status"] == "taken"]
    assert taken.count(("capture", "VllmKvCacheNearlyFull")) == 1
    assert {action for action, _ in taken}.isdisjoint({"reduce", "pause", "stop"})
