"""Row 10: an engine that restarts, or names its metrics anew: no rate is negative, nothing absent is zero."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from rich.progress import Progress

from tests.stubs.agent import StubStore
from tests.stubs.vllm import StubVllm, Turn
from tests.stubs.world import Embedder
from tests.workload.harness.test_driver import questions
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.experiment import Point
from workload.harness import health_gate as gate
from workload.harness.measurement import Measurement
from workload.harness.system_under_test import serve_agent
from workload.paths import cache_dir
from workload.promql.selectors import selector
from workload.promql.vllm_metrics import HITS, QUERIES
from workload.record.bundle import Bundle
from workload.record.history import NOTHING
from workload.record.journal import Journal
from workload.report.page import verdicts_of
from workload.services.process import free_port
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.services.targets import MEASURED, ArmLabels
from workload.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from workload.experiment import Experiment
    from workload.record.results import Measured

LABELS = ArmLabels("20250131-235959-x", "vllm-metrics", "prefix-on")
QUESTIONS = 8


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPrometheus]:
    """A real Prometheus for this module."""
    binary = find_prometheus(cache_dir())
    cache = tmp_path_factory.mktemp("prometheus")
    with LocalPrometheus(binary, cache, loopback_session(), port=free_port(), sample_interval_ms=100) as server:
        yield server


def measure(prometheus: LocalPrometheus, stub: StubVllm, folder: Path, labels: ArmLabels) -> Measured:
    """Measure a point of eight questions as a run does; only the exporter is left out."""
    settings = Settings.of({"limit": QUESTIONS, "max_hops": 1, "k": 10})
    with open_client(stub.url) as http:
        engine = RunningEngine(stub.url, read_facts(http), None, None)
    bundle = Bundle(folder, labels.run)
    store: Any = StubStore()
    with (
        Journal(bundle.journal, {}) as journal,
        serve_agent(engine, settings, store, Embedder(), journal=journal) as under_test,
        Progress(disable=True) as progress,
    ):
        scraped = {"vllm": [stub.url.removeprefix("http://")], "workload": [under_test.address]}
        try:
            part = Measurement(
                engine=engine,
                under_test=under_test,
                client=prometheus.client,
                targets=prometheus.targets,
                labels=labels,
                block=0,
                cache=0,
                scraped=scraped,
                history=NOTHING,
                bundle=bundle,
                progress=progress,
            ).point(Point("c1", 1), questions(QUESTIONS), questions(QUESTIONS + 1)[-1:], "restart")
            return under_test.run(part)
        finally:
            prometheus.targets.clear()


def restart_at(stub: StubVllm, request: int) -> Callable[[Any], Turn]:
    """Return a script in which one request finds the engine restarted: its counters begin at zero again.

    It is back after some scrapes, like a real one: a fall between two scrapes cannot be detected.
    """

    def ready() -> None:
        stub.canary_status = 200

    def turn(_: Any) -> Turn:
        if len(stub.requests) == request:
            stub.counts.clear()
            stub.canary_status = 503
            threading.Timer(2.5, ready).start()
            return Turn(after=1, then="reset")
        return Turn(seconds=0.05)

    return turn


@pytest.mark.prometheus
def test_row_10_a_restart_within_a_window_is_shown(
    prometheus: LocalPrometheus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two counts of one window, before and after the restart, are not one; their difference would even be negative."""
    monkeypatch.setattr(gate, "RETRY_SECONDS", 0.1)
    with StubVllm() as stub:
        stub.script = restart_at(stub, 24)
        found = measure(prometheus, stub, tmp_path, LABELS)
    assert found.accounting["ok"] == QUESTIONS - 1
    assert found.accounting["counter_resets"][QUERIES] == 1
    assert set(found.counters.values()) == {None}  # also of those that were 0 before and after
    measured = {"run": LABELS.run, "job": "vllm-fast", "phase": MEASURED}
    rate = f"rate({selector(QUERIES, measured)}[2s])"
    (series,) = prometheus.client.query_range(rate, found.window.start, found.window.end, 0.2)
    assert np.nanmax(series.values) > 0
    assert np.nanmin(series.values) >= 0


@pytest.mark.prometheus
def test_row_10_a_renamed_metric_is_absent(prometheus: LocalPrometheus, tmp_path: Path) -> None:
    """A release that names its counters anew has none of ours: None in the result, never 0, and no reset."""
    with StubVllm() as stub:
        stub.prefix = "vllm_v2:"
        found = measure(prometheus, stub, tmp_path, ArmLabels("20250131-235959-y", "vllm-metrics", "prefix-on"))
    assert found.accounting["ok"] == QUESTIONS
    assert set(found.counters.values()) == {None}
    assert found.accounting["counter_resets"] == {}


def test_row_10_the_report_says_that_counters_were_reset() -> None:
    """A reader who sees an absent hit rate must learn why."""
    experiment = cast("Experiment", SimpleNamespace(verdicts=lambda _: ["One sentence."]))
    calm, broken = {"counter_resets": {}}, {"counter_resets": {QUERIES: 1, HITS: 1}}
    assert verdicts_of(experiment, {"accounting": [calm, {}]}) == ["One sentence."]
    (_, added) = verdicts_of(experiment, {"accounting": [calm, broken]})
    assert added.startswith("The engine's counters were reset 1 time within 1 measured window")
