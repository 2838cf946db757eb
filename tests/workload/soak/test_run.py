"""Going on with a soak: with its own settings, wherever its services are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.alerts import RUN
from workload.errors import UsageError
from workload.harness.stay_up import Ports
from workload.record.bundle import Bundle
from workload.services.alertmanager import AttachedAlertmanager
from workload.services.locks import THIS_COMMAND
from workload.settings import load_settings
from workload.soak.plan import load_plan
from workload.soak.run import alertmanager_of, resumed, webhook_host
from workload.soak.session import EXPERIMENT

if TYPE_CHECKING:
    from pathlib import Path

BASIC = {"limit": 1, "max_hops": 3, "k": 10}


def begun(folder: Path, experiment: str) -> None:
    """Write the manifest of a run with a seed, a concurrency and a port of its own."""
    settings = load_settings({**BASIC, "seed": 7, "engine_port": 8001, "results": folder}, {})
    bundle = Bundle(folder, RUN)
    bundle.start(experiment, settings.flat())
    bundle.note(plan=load_plan({"duration": "8h", "concurrency": 4}).model_dump(mode="json"))


def test_a_soak_goes_on_with_its_own_settings_and_todays_places(tmp_path: Path) -> None:
    """Another seed or concurrency would be another run; another port, or a dry run from here on, is not."""
    begun(tmp_path, EXPERIMENT)
    now = load_settings({**BASIC, "seed": 1, "engine_port": 9001, "results": tmp_path}, {})
    settings, plan = resumed(now, load_plan({"duration": "1s", "dry_run": True}), RUN)
    assert (settings.load.seed, settings.places.engine_port) == (7, 9001)
    assert (plan.duration, plan.concurrency, plan.dry_run) == (28_800.0, 4, True)


@pytest.mark.parametrize(("experiment", "run"), [("latency", RUN), (EXPERIMENT, "another"), (EXPERIMENT, "../x")])
def test_what_is_no_soak_is_refused(tmp_path: Path, experiment: str, run: str) -> None:
    """Its journal means something else, or lies somewhere else."""
    begun(tmp_path, experiment)
    with pytest.raises(UsageError):
        resumed(load_settings({**BASIC, "results": tmp_path}, {}), load_plan({"duration": "1s"}), run)


RUNNING = {
    "HOP2RAG_PROMETHEUS_URL": "http://prometheus:9090",
    "HOP2RAG_TARGETS": "/targets",
    "HOP2RAG_ALERTMANAGER_URL": "http://alertmanager:9093",
    "HOP2RAG_LISTEN": "0.0.0.0:9500",
}


def test_a_running_alertmanager_steers_the_soak_of_its_prometheus(tmp_path: Path) -> None:
    """It calls from another host, so the webhook listens where Prometheus finds the metrics."""
    (tmp_path / "token").write_text("t")
    places = load_settings(BASIC, RUNNING).places
    found = alertmanager_of(places, Ports(), tmp_path / "token", THIS_COMMAND)
    assert isinstance(found, AttachedAlertmanager)
    assert found.client.url == "http://alertmanager:9093"
    assert webhook_host(places) == "0.0.0.0"
    assert webhook_host(load_settings(BASIC, {"HOP2RAG_LISTEN": "0.0.0.0:9500"}).places) == "127.0.0.1"


@pytest.mark.parametrize("left_out", ["HOP2RAG_ALERTMANAGER_URL", "token"])
def test_a_running_prometheus_sends_its_alerts_to_no_alertmanager_of_ours(tmp_path: Path, left_out: str) -> None:
    """Seen: the soak in a container started one of its own inside, in which no alert ever arrives."""
    (tmp_path / "token").write_text("t")
    places = load_settings(BASIC, {name: value for name, value in RUNNING.items() if name != left_out}).places
    with pytest.raises(UsageError, match="--webhook-token-file"):
        alertmanager_of(places, Ports(), None if left_out == "token" else tmp_path / "token", THIS_COMMAND)
