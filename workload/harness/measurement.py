"""Measures one point of a block while its engine runs: warm-up, first scrape, load, last scrape, exact counters."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from math import fsum
from typing import TYPE_CHECKING

from workload.experiment import Point
from workload.harness.driver import Driver, Phase
from workload.harness.host_load import host_clock, host_load
from workload.harness.loops import Tally
from workload.harness.sweep import question_id, sweep
from workload.promql.selectors import selector
from workload.promql.vllm_metrics import COUNTERS
from workload.record import results
from workload.record.results import Measured
from workload.record.window import Window
from workload.services.process import process_tree
from workload.services.prometheus import CounterResetError, NoDataError, PrometheusClient
from workload.services.scrape_registration import require_ours, wait_for_scrapes
from workload.services.targets import JOBS, MEASURED, TIMELINES, WARM_UP, ArmLabels, PhaseLabel, TargetFiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.progress import Progress

    from workload.corpus.document import StoreWatch
    from workload.corpus.hotpotqa import Question
    from workload.engine.launcher import RunningEngine
    from workload.harness.system_under_test import SystemUnderTest
    from workload.record.bundle import Bundle
    from workload.record.history import History


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One block: a running engine, the agent on it, and the observers of both; see `workload.harness.runner`."""

    engine: RunningEngine
    under_test: SystemUnderTest
    client: PrometheusClient
    targets: TargetFiles
    labels: ArmLabels
    block: int
    cache: int
    scraped: Mapping[str, Sequence[str]]
    history: History
    bundle: Bundle
    progress: Progress
    store: StoreWatch | None = None

    async def point(self, point: Point, asked: Sequence[Question], warm_up: Sequence[Question], title: str) -> Measured:
        """Measure a point. Questions that an interrupted run acknowledged are not asked again.

        Raises:
            Hop2RagError: the engine, the store or Prometheus stopped answering.
        """
        phase = self._phase(point.name, self.cache)
        done = self.history.acknowledged.get((phase.arm, phase.block, phase.name), frozenset())
        left = [question for question in asked if question.id not in done]
        if warm_up or self.under_test.warming.primer:
            await self._warm_up(point, warm_up, phase, title)
        start = await self._enter(MEASURED)
        pid, before = self.engine.pid, host_clock(self.engine.pid)
        with self.under_test.busy.accounting():
            tally = await self._load(phase, point, left, f"{title}: {point.name}", done=done)
        host = host_load(before, host_clock(pid), knows_engine=pid is not None)
        end = await self._settled()
        window = Window(arm=phase.arm, block=phase.block, point=phase.name, segment=phase.segment, start=start, end=end)
        facts = {
            **self.engine.facts.as_dict(),
            "has_random_weights": self.engine.has_random_weights,
            "pids": process_tree(self.engine.pid),
        }
        counters, resets = self._counters(window)
        changes = {"counter_resets": resets, "store_changed": await self._change_of_store(window)}
        return Measured(window, facts, counters, {**tally.as_dict(), **changes, **host})

    async def _change_of_store(self, window: Window) -> str:
        """Return how the document store changed during a window, or "no"; a change is printed at once."""
        change = await asyncio.to_thread(self.store.change) if self.store else None
        if change:
            text = f"The store changed in {window.arm}, {window.point}: {change}. Another program writes to it."
            self.progress.console.print(text, markup=False, highlight=False)
        return change or "no"

    async def _warm_up(self, point: Point, questions: Sequence[Question], phase: Phase, title: str) -> None:
        """Ask the warm-up's questions and prime `phase`, under labels and instruments of the warm-up."""
        await self._enter(WARM_UP)
        warming = self._phase(results.WARM_UP, self.block, f"-{point.name}")
        if questions:
            warm = Point(results.WARM_UP, point.concurrency)
            await self._load(warming, warm, questions, f"{title}: warm-up", driver=self.under_test.warming)
        await self.under_test.warming.prime(phase)
        await self._settled(WARM_UP)

    async def _enter(self, label: PhaseLabel) -> float:
        """Label all targets with this phase; return the instant by which each has been scraped under it.

        A scrape during the change could carry either label, so no instrument is exposed meanwhile.

        Raises:
            PrometheusError: a target was not scraped.
        """
        instruments = self.under_test.instruments
        if instruments.shown != label:
            instruments.shown = None
        exporter, workload = self.scraped.get("exporter", ()), self.scraped["workload"]
        labels = replace(self.labels, phase=label)
        self.targets.write(labels, vllm=self.engine.servers, exporter=exporter, workload=workload)
        entered = await self._settled(label)
        if instruments.shown == label:
            return entered
        instruments.shown = label
        return await self._settled(label)

    def _phase(self, name: str, cache: int, suffix: str = "") -> Phase:
        arm = self.labels.arm
        place = (arm, self.block, name)
        segment = self.history.segments.get(place, 0)
        salt = f"{self.labels.run}-{cache}-{name}{suffix}-{segment}"
        sent = self.history.interrupted.get(place, {})
        return Phase(arm=arm, block=self.block, name=name, segment=segment, salt=salt, sent_before=sent)

    async def _load(
        self,
        phase: Phase,
        point: Point,
        questions: Sequence[Question],
        title: str,
        *,
        done: frozenset[str] = frozenset(),
        driver: Driver | None = None,
    ) -> Tally:
        """Put the load of a point on the agent. A sweep leaves out the calls that are `done`."""
        lengths = [question_id(place, length) for place, length in enumerate(point.contexts)]
        total = sum(name not in done for name in lengths) if lengths else len(questions)
        tally = Tally(total)
        task = self.progress.add_task(title, total=total)

        def advance() -> None:
            self.progress.advance(task)

        try:
            if point.contexts:
                texts = [paragraph.text for question in questions for paragraph in question.context]
                await sweep(
                    self.under_test, self.engine, phase, point.contexts, texts, tally=tally, advance=advance, done=done
                )
            else:
                driver = driver or self.under_test.driver
                await driver.run(
                    phase, questions, point.concurrency, tally=tally, advance=advance, arrivals=point.arrivals
                )
        finally:
            place = {"arm": phase.arm, "block": phase.block, "phase": phase.name}
            self.bundle.note(last_phase={**place, **tally.as_dict()})
        return tally

    async def timelines(self) -> None:
        """Wait until the timelines cover all windows: they have scrape times of their own.

        Raises:
            PrometheusError: one was not scraped.
        """
        jobs = {JOBS[job]: self.scraped[job] for job in TIMELINES}
        await asyncio.to_thread(wait_for_scrapes, self.client, self.labels, jobs, time.time())

    async def _settled(self, label: PhaseLabel = MEASURED) -> float:
        """Wait until Prometheus has scraped everything up to now, and return that instant.

        Raises:
            PrometheusError: a target was not scraped.
            DependencyDownError: another program has replaced our targets; the next phase would overwrite the evidence.
        """
        labels = replace(self.labels, phase=label)
        at = await asyncio.to_thread(wait_for_scrapes, self.client, labels, self.scraped, time.time())
        require_ours(self.targets)
        return at

    def _counters(self, window: Window) -> tuple[dict[str, float | None], dict[str, int]]:
        """Return exact increases of counters, and how often each fell in the window because the engine restarted.

        Those of several servers add up. A metric that one of them does not have is None, never 0. If one counter fell,
        all are None: they belong to one process, and its counts between its last scrape and its end are unknown.
        """
        found: dict[str, float | None] = dict.fromkeys(COUNTERS)
        resets: dict[str, int] = {}
        for metric in COUNTERS:
            try:
                found[metric] = fsum(self._increase(metric, server, window) for server in self.scraped["vllm"])
            except CounterResetError as error:
                resets[metric] = error.times
            except NoDataError:
                continue
        return dict.fromkeys(COUNTERS) if resets else found, resets

    def _increase(self, metric: str, server: str, window: Window) -> float:
        labels = {**self.labels.as_dict(), "job": "vllm", "instance": server}
        return self.client.counter_delta(selector(metric, labels), window.start, window.end)
