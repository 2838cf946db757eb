"""`hop2rag load`: one question at a time until it is stopped, so that dashboards always show something."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from workload.compose.configs import LIVE
from workload.engine.profile import PROFILES
from workload.harness.driver import Phase
from workload.harness.health_gate import ENGINE_REASONS
from workload.harness.loops import Tally
from workload.harness.system_under_test import SystemUnderTest, serve_agent
from workload.services.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from rich.console import Console

    from workload.corpus.default import Corpus
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.engine.launcher import Launcher, RunningEngine
    from workload.services.targets import TargetFiles
    from workload.settings import Settings

PAUSE_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class ContinuousLoad:
    """Asks the corpus' questions, shuffled anew in each lap, and pauses while an experiment uses the engine.

    Args:
        rate: most questions per second; the pauses between them are exponential.
        launcher: brings the engine up, or waits for it.
        targets: the target files of Prometheus, in whose folder its lock is.
        pause_reasons: returns the reasons to pause now, such as alerts; nothing is sent while there are any.
        engine: the engine's lock, if others may use the engine without Prometheus' targets.
    """

    settings: Settings
    rate: float
    launcher: Launcher
    targets: TargetFiles
    corpus: Corpus
    embedder: Embedder
    console: Console
    pause_reasons: Callable[[], Sequence[str]] = tuple
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    engine: FileLock | None = None

    def run(self, laps: int | None = None) -> None:
        """Run until stopped, or for `laps` laps, as the only load on this engine and this Prometheus.

        A lap ends with the corpus, a failure of the engine, or a pause, after which the engine may be another one. Each
        lap has new instruments, so their memory stays bounded.

        Raises:
            InUseError: another load asks there; the message names it.
            DependencyDownError: the engine or the document store does not answer.
        """
        with ExitStack() as stack:
            for lock in self._locks():
                stack.enter_context(lock.load_lock().acquire_now())
            self._laps(laps)

    def _laps(self, laps: int | None) -> None:
        lap = 0
        while laps is None or lap < laps:
            lap += 1
            with ExitStack() as stack:
                engine = self._attach(stack)
                under_test = stack.enter_context(serve_agent(engine, self.settings, self.corpus.store, self.embedder))
                exporter = [self.settings.places.exporter] if self.settings.places.exporter else []
                with self._locked() as may_ask:
                    if may_ask:
                        workload = [under_test.address]
                        self.targets.write(LIVE, vllm=engine.servers, exporter=exporter, workload=workload)
                self.console.print(f"Lap {lap}: one question at a time, at most {self.rate:g} per second")
                random = Random(f"{self.settings.load.seed}-{lap}")
                questions = random.sample(self.corpus.questions, len(self.corpus.questions))
                under_test.run(self._lap(under_test, questions, lap, random))

    def _attach(self, stack: ExitStack) -> RunningEngine:
        """Start or attach to an engine at a moment when no experiment uses it: one may be between two arms."""
        while True:
            with self._locked() as may_ask:
                if may_ask and not self.pause_reasons():
                    return stack.enter_context(self.launcher.start(PROFILES["base"]))
            asyncio.run(self._stand_aside())

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Share the locks that an experiment would acquire; yield whether that was possible."""
        with ExitStack() as stack:
            yield all(stack.enter_context(lock.acquire_shared()) for lock in self._locks())

    def _locks(self) -> list[FileLock]:
        return [FileLock(self.targets.folder, "this Prometheus"), *([self.engine] if self.engine else [])]

    async def _lap(self, under_test: SystemUnderTest, questions: Sequence[Question], lap: int, random: Random) -> None:
        # Each lap has its own cache salt, so a question that is asked again cannot hit its earlier prompts.
        phase = Phase(
            arm=LIVE.arm, block=lap, name=LIVE.experiment, segment=0, salt=f"{LIVE.run}-{lap}-{random.random()}"
        )
        for question in questions:
            with self._locked() as may_ask:
                failed = await self._ask(under_test, phase, question) if may_ask and not self.pause_reasons() else None
            if failed is None:
                await self._stand_aside()
                return
            if failed & ENGINE_REASONS:
                self.console.print(f"The engine failed ({', '.join(failed)}); attaching again")
                return
            await self.sleep(random.expovariate(self.rate))

    async def _ask(self, under_test: SystemUnderTest, phase: Phase, question: Question) -> frozenset[str]:
        tally = Tally(1)
        await under_test.driver.run(phase, [question], 1, tally=tally, advance=lambda: None)
        return frozenset(tally.failed)

    async def _stand_aside(self) -> None:
        self.console.print(f"Paused: {', '.join(self.pause_reasons()) or 'an experiment has the engine'}")
        while True:
            await self.sleep(PAUSE_POLL_SECONDS)
            with self._locked() as may_ask:
                if may_ask and not self.pause_reasons():
                    self.console.print("Continuing")
                    return
