"""The only loop: arm up, warm-up, load, settle, window; then reduce, draw and bind."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workload.corpus.hotpotqa import draw
from workload.drive import Phase
from workload.engine.profile import PROFILES
from workload.experiment import Window
from workload.load import Tally
from workload.prometheus import NoDataError
from workload.promql.vllm_metrics import COUNTERS
from workload.results import Block
from workload.scrapes import wait_for_scrapes
from workload.selectors import selector
from workload.subject import subject
from workload.targets import ArmLabels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from workload.bundle import Bundle
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.corpus.store import Store
    from workload.engine.launcher import Launcher, RunningEngine
    from workload.experiment import Arm, Experiment
    from workload.journal import Journal
    from workload.prometheus import PrometheusClient
    from workload.settings import Settings
    from workload.subject import Subject
    from workload.targets import TargetFiles


@dataclass(frozen=True)
class Runner:
    """Runs an experiment's blocks one after the other, each on an engine of its own, and measures each."""

    experiment: Experiment
    settings: Settings
    launcher: Launcher
    client: PrometheusClient
    targets: TargetFiles
    store: Store
    embedder: Embedder
    bundle: Bundle
    journal: Journal
    progress: Progress

    def run(self, questions: Sequence[Question]) -> list[Block]:
        """Run all blocks on questions drawn with the run's seed and return what was measured.

        Raises:
            Hop2RagError: a part is missing or stopped answering; what was acknowledged is in the journal.
        """
        drawn = draw(questions, self.settings.limit + self.experiment.warm_up, self.settings.seed)
        measured, warm_up = drawn[: self.settings.limit], drawn[self.settings.limit :]
        blocks: list[Block] = []
        arms = self.experiment.blocks(self.settings.order)
        for number, arm in enumerate(arms):
            title = f"{arm.name} (start {number + 1} of {len(arms)})"
            blocks.append(self._block(arm, number, measured, warm_up, title))
            self.bundle.note(blocks=[asdict(block) for block in blocks])
        return blocks

    def _block(
        self, arm: Arm, number: int, measured: Sequence[Question], warm_up: Sequence[Question], title: str
    ) -> Block:
        with (
            self.launcher.start(PROFILES[arm.profile]) as engine,
            subject(engine, self.settings, self.store, self.embedder, self.journal) as under_test,
        ):
            labels = ArmLabels(self.bundle.run_id, self.experiment.name, arm.name)
            scraped = {"vllm": [urlsplit(engine.endpoint).netloc], "workload": [under_test.address]}
            self.targets.write(labels, **scraped)
            try:
                wait_for_scrapes(self.client, labels, scraped, time.time())
                measure = _Measurement(self, engine, under_test, labels, scraped)
                return asyncio.run(measure.block(number, measured, warm_up, title))
            finally:
                self.targets.clear()


@dataclass(frozen=True)
class _Measurement:
    """One block while its engine runs."""

    runner: Runner
    engine: RunningEngine
    subject: Subject
    labels: ArmLabels
    scraped: dict[str, list[str]]

    async def block(self, number: int, measured: Sequence[Question], warm_up: Sequence[Question], title: str) -> Block:
        arm = self.labels.arm
        salt = f"{self.labels.run}-{number}"
        concurrency = self.runner.settings.concurrency
        await self._ask(Phase(arm, number, "warm-up", f"{salt}-warm-up"), warm_up, concurrency, f"{title}: warm-up")
        start = await self._scraped()
        with self.subject.busy.accounting():
            tally = await self._ask(Phase(arm, number, "load", salt), measured, concurrency, title)
        end = await self._scraped()
        window = Window(arm, number, start, end)
        return Block(window, self.engine.facts.as_dict(), self._counters(window), tally.as_dict())

    async def _ask(self, phase: Phase, questions: Sequence[Question], concurrency: int, title: str) -> Tally:
        tally = Tally(len(questions))
        task = self.runner.progress.add_task(title, total=len(questions))
        try:
            await self.subject.driver.run(
                phase, questions, concurrency, tally, lambda: self.runner.progress.advance(task)
            )
        finally:
            self.runner.bundle.note(last_phase={**asdict(phase), "accounting": tally.as_dict()})
        return tally

    async def _scraped(self) -> float:
        """Wait until everything that has happened by now is in Prometheus, and return that instant."""
        return await asyncio.to_thread(wait_for_scrapes, self.runner.client, self.labels, self.scraped, time.time())

    def _counters(self, window: Window) -> dict[str, float | None]:
        """Return exact increases; a metric that this vLLM does not have is None, never 0."""
        labels = {**self.labels.as_dict(), "job": "vllm", "instance": self.scraped["vllm"][0]}
        found: dict[str, float | None] = {}
        for metric in COUNTERS:
            try:
                found[metric] = self.runner.client.counter_delta(selector(metric, labels), window.start, window.end)
            except NoDataError:
                found[metric] = None
        return found


def measured_rows(
    questions: Sequence[dict[str, Any]], calls: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the journal's questions and calls of the load, without the warm-up; each call gets its question's arm."""
    kept = {row["id"]: row for row in questions if row["phase"] == "load"}
    joined = [
        {**call, "arm": kept[call["question"]]["arm"], "question_id": kept[call["question"]]["question_id"]}
        for call in calls
        if call["question"] in kept
    ]
    return list(kept.values()), joined
