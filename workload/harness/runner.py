"""The only loop: arm up, warm-up, load, settle, window, block after block."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from workload.corpus.hotpotqa import draw
from workload.corpus.watch import StoreWatch
from workload.harness.blocks import Reuse, turns
from workload.harness.measurement import Measurement
from workload.harness.system_under_test import subject
from workload.record.annotations import mark_window, no_marks
from workload.services.exporter_process import start_exporter, use_exporter
from workload.services.scrape_registration import leaving
from workload.services.targets import ArmLabels, instance_of
from workload.settings import with_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from rich.progress import Progress

    from workload.agent.replay import Script
    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.engine.launcher import Launcher
    from workload.experiment import Experiment, Point
    from workload.harness.blocks import Turn
    from workload.record.annotations import Annotate
    from workload.record.bundle import Bundle
    from workload.record.history import History
    from workload.record.journal import Journal
    from workload.record.results import Measured
    from workload.services.prometheus import PrometheusClient
    from workload.services.targets import TargetFiles
    from workload.settings import Settings


def asked_at(point: Point, limit: int) -> int:
    """Return how many questions a point asks."""
    return point.questions or limit


@dataclass(frozen=True)
class Runner:
    """Runs an experiment's blocks one after the other and measures each."""

    experiment: Experiment
    settings: Settings
    launcher: Launcher
    client: PrometheusClient
    targets: TargetFiles
    store: DocumentStore
    embedder: Embedder
    bundle: Bundle
    journal: Journal
    history: History
    script: Script | None
    progress: Progress
    annotate: Annotate = no_marks

    def run(self, questions: Sequence[Question]) -> list[Measured]:
        """Run all blocks on questions drawn with the run's seed and return what was measured, earlier parts included.

        Each point asks the first of the same questions.

        Raises:
            Hop2RagError: a part is missing or stopped answering; what was acknowledged is in the journal.
        """
        arms = self.experiment.blocks(self.settings.load.order)
        points = [point for arm in arms for point in self.experiment.points_of(arm, self.settings.load)]
        most = max(asked_at(point, self.settings.load.limit) for point in points)
        drawn = draw(questions, most + self.experiment.warm_up, self.settings.load.seed)
        asked, warm_up = drawn[:most], drawn[most:]
        measured = list(self.history.measured)
        blocks, reuse = turns(arms, asked, self.settings.load.interleave), Reuse()
        for turn in blocks:
            wanted = self.experiment.points_of(turn.arm, self.settings.load)
            if left := [point for point in wanted if self._is_open(turn, point)]:
                place = f" (block {turn.block + 1} of {len(blocks)})" if len(blocks) > 1 else ""
                self._block(turn, left, warm_up, turn.arm.name + place, measured, reuse)
        return measured

    @cached_property
    def _store_watch(self) -> StoreWatch:
        """One for the whole run: a change between two blocks shows in the window after it."""
        return StoreWatch(self.store)

    def _is_open(self, turn: Turn, point: Point) -> bool:
        """Return whether a point is still to be measured: it has no window yet.

        Its questions may all have ended before an interruption; the engine's facts and a window are still missing.
        """
        place = (turn.arm.name, turn.block, point.name)
        return not any((w.arm, w.block, w.point) == place for w in (part.window for part in self.history.measured))

    def _block(
        self,
        turn: Turn,
        points: Sequence[Point],
        warm_up: Sequence[Question],
        title: str,
        measured: list[Measured],
        reuse: Reuse,
    ) -> None:
        settings = with_options(self.settings, turn.arm.options)
        with (
            self.launcher.start(turn.arm.vllm_profile) as engine,
            self._exporter(engine.pid) as exporter,
            subject(
                engine, settings, self.store, self.embedder, self.journal, self.script, sent := reuse.of(engine)
            ) as under_test,
        ):
            warming = () if sent.calls else warm_up
            labels = ArmLabels(self.bundle.run_id, self.experiment.name, turn.arm.name)
            scraped = {
                "vllm": [instance_of(engine.endpoint)],
                "workload": [under_test.address],
                "exporter": [exporter],
            }
            with leaving(self.targets, self.client):
                measurement = Measurement(
                    engine,
                    under_test,
                    self.client,
                    self.targets,
                    labels,
                    turn.block,
                    turn.cache,
                    scraped,
                    self.history,
                    self.bundle,
                    self.progress,
                    self._store_watch,
                )
                under_test.run(self._points(measurement, points, turn.questions, warming, title, measured))

    def _exporter(self, engine_pid: int | None) -> AbstractContextManager[str]:
        places = self.settings.places
        if places.exporter:
            return use_exporter(places.exporter, places.gpu_samples, self.bundle.folder)
        return start_exporter(engine_pid, self.settings.load.gpu_interval_ms, self.bundle.folder)

    async def _points(
        self,
        measurement: Measurement,
        points: Sequence[Point],
        asked: Sequence[Question],
        warm_up: Sequence[Question],
        title: str,
        measured: list[Measured],
    ) -> None:
        # All in one event loop: the agent's connections belong to the loop that opened them.
        for point in points:
            mine = asked[: asked_at(point, self.settings.load.limit)]
            measured.append(await measurement.point(point, mine, warm_up, title))
            self.bundle.note(measured=[part.as_dict() for part in measured])
            # In a thread: a Grafana that hangs must not hold up the servers that run in this loop.
            await asyncio.to_thread(mark_window, self.annotate, measurement.labels, measured[-1].window)
        await measurement.timelines()
