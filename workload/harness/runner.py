"""The only loop over blocks: start the arm's engine, warm up, put the load on it, settle, close the window."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from workload.agent.reuse_order import ReuseOrder
from workload.corpus.document import DocumentStore, StoreWatch
from workload.corpus.hotpotqa import Question, draw
from workload.harness.measurement import Measurement
from workload.harness.system_under_test import serve_agent
from workload.record.annotations import Annotate, mark_window, no_marks
from workload.services.exporter_process import start_exporter, use_exporter
from workload.services.scrape_registration import leaving
from workload.services.targets import ArmLabels, TargetFiles, instance_of
from workload.settings import Settings, with_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from rich.progress import Progress

    from workload.agent.replay import Script
    from workload.corpus.embedding import Embedder
    from workload.engine.launcher import Launcher, RunningEngine
    from workload.experiment import Arm, Experiment, Point
    from workload.record.bundle import Bundle
    from workload.record.history import History
    from workload.record.journal import Journal
    from workload.record.results import Measured
    from workload.services.prometheus import PrometheusClient


def questions_at(point: Point, limit: int) -> int:
    """Return how many questions a point asks."""
    return point.questions or limit


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs an experiment's blocks one after the other and measures each of their points."""

    experiment: Experiment[Any]
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
        """Run all blocks and return their windows, those of an interrupted run included.

        The questions are drawn with the run's seed. Every point asks the same questions, from the first on.

        Raises:
            Hop2RagError: a part is missing or stopped answering; acknowledged questions are in the journal.
        """
        load = self.settings.load
        arms = self.experiment.arms_in_order(load.order)
        points = [point for arm in arms for point in self.experiment.points_of(arm, load)]
        most = max(questions_at(point, load.limit) for point in points)
        drawn = draw(questions, most + self.experiment.warm_up, load.seed)
        asked, warm_up = drawn[:most], drawn[most:]
        measured = list(self.history.measured)
        all_blocks, reuse = blocks(arms, asked, load.interleave), Reuse()
        for block in all_blocks:
            wanted = self.experiment.points_of(block.arm, load)
            if left := [point for point in wanted if self._is_open(block, point)]:
                place = f" (block {block.number + 1} of {len(all_blocks)})" if len(all_blocks) > 1 else ""
                self._measure(block, left, warm_up, block.arm.name + place, measured=measured, reuse=reuse)
        return measured

    @cached_property
    def _store_watch(self) -> StoreWatch:
        """One for the whole run, so that a change between two blocks shows in the next window."""
        return StoreWatch(self.store)

    def _is_open(self, block: Block, point: Point) -> bool:
        """Return whether a point has no window yet.

        All its questions may have ended before an interruption: the window and the engine's facts are still missing.
        """
        place = (block.arm.name, block.number, point.name)
        return not any((w.arm, w.block, w.point) == place for w in (part.window for part in self.history.measured))

    def _measure(
        self,
        block: Block,
        points: Sequence[Point],
        warm_up: Sequence[Question],
        title: str,
        *,
        measured: list[Measured],
        reuse: Reuse,
    ) -> None:
        settings = with_options(self.settings, block.arm.options)
        with (
            self.launcher.start(block.arm.vllm_profile) as engine,
            self._exporter(engine.pid) as exporter,
            serve_agent(
                engine,
                settings,
                self.store,
                self.embedder,
                journal=self.journal,
                script=self.script,
                reuse=(sent := reuse.of(engine)),
            ) as under_test,
        ):
            warming = () if sent.calls else warm_up
            labels = ArmLabels(self.bundle.run_id, self.experiment.name, block.arm.name)
            engines = [instance_of(server) for server in engine.servers]
            with leaving(self.targets, self.client):
                measurement = Measurement(
                    engine=engine,
                    under_test=under_test,
                    client=self.client,
                    targets=self.targets,
                    labels=labels,
                    block=block.number,
                    cache=block.cache,
                    scraped={"vllm": engines, "workload": [under_test.address], "exporter": [exporter]},
                    history=self.history,
                    bundle=self.bundle,
                    progress=self.progress,
                    store=self._store_watch,
                )
                under_test.run(self._points(measurement, points, block.questions, warming, title, measured=measured))

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
        *,
        measured: list[Measured],
    ) -> None:
        # All points share one event loop, because the agent's connections belong to the loop that opened them.
        for point in points:
            mine = asked[: questions_at(point, self.settings.load.limit)]
            measured.append(await measurement.point(point, mine, warm_up, title))
            self.bundle.note(measured=[part.as_dict() for part in measured])
            # In a thread: a Grafana that hangs must not delay the servers that run in this loop.
            await asyncio.to_thread(mark_window, self.annotate, measurement.labels, measured[-1].window)
        await measurement.timelines()


@dataclass(frozen=True)
class Block:
    """The questions that an arm answers before the next arm's block begins.

    `number` counts the blocks of a run from 0. `cache` is the arm's place in the order. The blocks of a place share
    their cache salts, so that the reuse across questions does not depend on the length of a block; places share none.
    """

    number: int
    arm: Arm
    questions: Sequence[Question]
    cache: int


def blocks(arms: Sequence[Arm], questions: Sequence[Question], size: int | None) -> list[Block]:
    """Return the blocks of arms that all answer the first `size` questions, then the next `size`, and so on.

    With None, each arm answers all questions in one block. A machine's speed drifts within minutes: the shorter the
    blocks, the closer in time are the answers that are compared, and the more of the drift shows in the spread between
    questions, as it must.
    """
    step = size or max(1, len(questions))
    parts = [questions[start : start + step] for start in range(0, len(questions), step)]
    places = product(parts, enumerate(arms))
    return [Block(number, arm, part, cache) for number, (part, (cache, arm)) in enumerate(places)]


@dataclass
class Reuse:
    """The reuse bound of one engine: it spans the blocks of all arms that the engine serves."""

    _last: tuple[RunningEngine, ReuseOrder] | None = field(default=None, init=False)

    def of(self, engine: RunningEngine) -> ReuseOrder:
        """Return the bound for an engine's calls: the same one as long as the engine is the same."""
        if self._last is None or self._last[0] is not engine:
            self._last = engine, ReuseOrder(engine.facts.block_size, adapter=engine.facts.adapter)
        return self._last[1]
