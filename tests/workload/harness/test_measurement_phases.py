"""What warms up and what is measured: their labels, their instruments, and the order in which they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rich.progress import Progress

from tests.stubs.agent import StubStore
from tests.stubs.vllm import StubVllm
from tests.stubs.world import Embedder
from tests.workload.harness.test_driver import questions
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.experiment import Point
from workload.harness.measurement import Measurement
from workload.harness.system_under_test import serve_agent
from workload.paths import cache_dir
from workload.promql.overview import ARM_ANSWERED
from workload.promql.vllm_metrics import QUESTIONS_ANSWERED
from workload.record.bundle import Bundle
from workload.record.history import NOTHING
from workload.record.journal import Journal
from workload.services.process import free_port
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.services.targets import ArmLabels
from workload.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ArmLabels("20250131-235959-x", "concurrency", "low")
POINTS, ASKED, WARMING = (Point("c1", 1), Point("c2", 2)), 4, 3
RUN = {"run": LABELS.run, "experiment": LABELS.experiment, "arm": LABELS.arm}


@pytest.mark.prometheus
def test_row_30_two_levels_count_what_they_measured_and_nothing_else(tmp_path: Path) -> None:
    """A counter that goes on through the second warm-up would carry it into every increase over both levels."""
    store: Any = StubStore()
    bundle = Bundle(tmp_path, LABELS.run)
    with (
        StubVllm() as stub,
        LocalPrometheus(find_prometheus(cache_dir()), tmp_path, loopback_session(), port=free_port()) as prometheus,
        Journal(bundle.journal, {}) as journal,
        Progress(disable=True) as progress,
    ):
        with open_client(stub.url) as http:
            engine = RunningEngine(stub.url, read_facts(http), None, None)
        settings = Settings.of({"limit": ASKED, "max_hops": 1, "k": 10})
        with serve_agent(engine, settings, store, Embedder(), journal=journal) as under_test:
            measurement = Measurement(
                engine=engine,
                under_test=under_test,
                client=prometheus.client,
                targets=prometheus.targets,
                labels=LABELS,
                block=0,
                cache=0,
                scraped={"vllm": [stub.url.removeprefix("http://")], "workload": [under_test.address]},
                history=NOTHING,
                bundle=bundle,
                progress=progress,
            )
            drawn = questions(ASKED + WARMING)

            async def both() -> list[float]:
                parts = [await measurement.point(point, drawn[:ASKED], drawn[ASKED:], "t") for point in POINTS]
                return [part.window.end for part in parts]

            first, last = under_test.run(both())

        def answered(query: str, at: float) -> dict[str, float]:
            return {found.labels.get("phase", ""): found.value for found in prometheus.client.query(query, at)}

        everything = f'hop2rag_questions_total{{run="{LABELS.run}",outcome="ok",termination!="x"}}'
        by_phase = answered(f"sum by (phase) (last_over_time({everything}[5m]))", last)
        assert by_phase == {"measured": 2 * ASKED, "warmup": 2 * WARMING}
        assert answered(QUESTIONS_ANSWERED.scoped(RUN, 1.0), first) == {"": ASKED}
        assert answered(QUESTIONS_ANSWERED.scoped(RUN, 1.0), last) == {"": 2 * ASKED}
        assert answered(ARM_ANSWERED.scoped(RUN, 1.0, range_seconds=300), last) == {"": 2 * ASKED}
        scraped = f'count by (phase) (last_over_time(vllm:prompt_tokens_total{{run="{LABELS.run}",job="vllm"}}[5m]))'
        assert answered(scraped, last).keys() == {"measured", "warmup"}
