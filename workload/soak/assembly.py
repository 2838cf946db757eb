"""Puts a soak together on what surrounds it, runs this process's part of it, and writes the report."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.agent.soak import SoakMetrics
from workload.agent.reuse_order import ReuseOrder
from workload.corpus.watch import StoreWatch
from workload.engine.probe import ask_canary
from workload.engine.profile import PROFILES
from workload.engine.supervised import SupervisedEngine
from workload.errors import Hop2RagError, StorageError
from workload.harness.process_memory import share_one_arena
from workload.harness.system_under_test import serve_agent
from workload.record.journal import Journal
from workload.services.alert import steering_alerts
from workload.services.alert_confirmation import confirmer
from workload.services.exporter_process import start_exporter
from workload.services.scrape_registration import scraped
from workload.services.targets import ArmLabels
from workload.settings import MEASURED
from workload.soak.checkpoint import read_checkpoint, stream_of
from workload.soak.clock import steady
from workload.soak.display import Display, Recent
from workload.soak.outcome import judged
from workload.soak.ownership_watch import keep_possession
from workload.soak.pace import Ending, Pace
from workload.soak.record import SoakRecord
from workload.soak.recovery import Recovery
from workload.soak.reporting import report
from workload.soak.segments import Segments
from workload.soak.sending import Sender
from workload.soak.signals import orderly
from workload.soak.soak import Soak, free_bytes
from workload.soak.steering import Steering
from workload.soak.summary import counter_resets, recorded_share
from workload.soak.watching import served, watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from rich.progress import Progress

    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.engine.launcher import Launcher, RunningEngine
    from workload.harness.system_under_test import SystemUnderTest
    from workload.record.bundle import Bundle
    from workload.services.alert import Alert
    from workload.services.alertmanager import LocalAlertmanager
    from workload.services.prometheus import PrometheusClient
    from workload.services.prometheus_server import LocalPrometheus
    from workload.settings import Settings
    from workload.soak.plan import SoakPlan
    from workload.soak.reporting import FinishedSoak

    Capture = Callable[[Alert, float], str]
    Mark = Callable[[float, str, str], None]

EXPERIMENT = "soak"
REACH_FACTOR = 4
"""How many times the engine's KV pool the reuse bound remembers: far more than could still be cached."""

WATCHED_ONLY = {"dry_run", "alerts", "pause_patience"}
"""What may differ when a soak goes on: who watches it, not what is measured."""


@dataclass(frozen=True)
class Surroundings:
    """What a soak runs on and is watched by; all of it is up, and the soak stops none of it.

    Attributes:
        launcher: brings up the engine.
        owns_engine: whether that engine is ours to start again.
        store, embedder, questions: what the agent retrieves from and is asked.
        prometheus: scrapes, and evaluates the alerts; without it, in tests, nothing is recorded.
        alertmanager: sends the alerts; None where nobody steers.
        webhook_port: where it sends them.
        capture: keeps the panels of the moment of an alert, see `workload.soak.capture`.
        mark: marks an action in the dashboards: seconds since the epoch, alert, action. Never raises.
        free: returns the free space of the disk that holds the results, in bytes.
    """

    launcher: Launcher
    owns_engine: bool
    store: DocumentStore
    embedder: Embedder
    questions: Sequence[Question]
    prometheus: LocalPrometheus | None = None
    alertmanager: LocalAlertmanager | None = None
    webhook_port: int = 9096
    capture: Capture = lambda *_: "nothing to capture with"
    mark: Mark = lambda *_: None
    free: Callable[[Bundle], int] = free_bytes


@dataclass
class Assembly:
    """One process's part of a soak."""

    around: Surroundings
    settings: Settings
    plan: SoakPlan
    bundle: Bundle
    progress: Progress
    stack: ExitStack = field(init=False, default_factory=ExitStack)
    _scraper: PrometheusClient | None = field(init=False, default=None)

    def conduct(self) -> FinishedSoak:
        """Run the soak, or go on with it, and write its report, also where something ended it early.

        Raises:
            Hop2RagError: the engine, the store, Prometheus or the disk is at fault. The run can be resumed; unless the
                disk is at fault its report so far is written.
        """
        share_one_arena()
        self._wall = steady()
        self._before, has_journal = read_checkpoint(self.bundle), self.bundle.journal.exists()
        with self.stack as stack:
            config = {
                "settings": self.settings.flat(*MEASURED),
                "plan": self.plan.model_dump(mode="json", exclude=WATCHED_ONLY),
            }
            journal = stack.enter_context(Journal(self.bundle.journal, config))
            # Only now is it known to be sound.
            self._stands = SoakRecord(self.bundle.journal).unfinished() if has_journal else None
            journal.close_interrupted()
            kept = stack.enter_context(
                SupervisedEngine(self.around.launcher, PROFILES[self.plan.profile], restarts=self.around.owns_engine)
            )
            facts = kept.engine.facts
            blocks = facts.num_gpu_blocks
            under_test = stack.enter_context(
                serve_agent(
                    kept.engine,
                    self.settings,
                    self.around.store,
                    self.around.embedder,
                    journal=journal,
                    reuse=ReuseOrder(facts.block_size, blocks and REACH_FACTOR * blocks, facts.adapter),
                )
            )
            self._scrape(kept.engine, under_test)
            self.bundle.note(engine=kept.engine.facts.as_dict())
            record = SoakRecord(self.bundle.journal)
            pace = Pace(self.plan.concurrency)
            failure = None
            try:
                under_test.run(self._run(journal, record, kept, under_test, pace))
            except StorageError:
                raise
            except Hop2RagError as error:
                failure = error
                if not record.has_begun():
                    raise  # there is nothing to report on
            ending = pace.ending if not failure else Ending(f"given up: {failure}", failure.exit_code)
            finished = self._report(record, ending or Ending("ended", 1), kept)
        if failure:
            raise failure
        return finished

    def _scrape(self, engine: RunningEngine, under_test: SystemUnderTest) -> None:
        """Have Prometheus scrape the soak for as long as the stack is open, and wait until it does."""
        prometheus = self.around.prometheus
        if prometheus is None:
            return
        port = urlsplit(engine.endpoint).port if engine.pid else None
        interval = self.settings.load.gpu_interval_ms
        exporter = self.stack.enter_context(start_exporter(None, interval, self.bundle.folder, engine_port=port))
        labels = ArmLabels(self.bundle.run_id, EXPERIMENT, self.plan.profile)
        told = {"vllm": [engine.endpoint], "exporter": [exporter], "workload": [under_test.address]}
        self.stack.enter_context(scraped(prometheus.targets, prometheus.client, labels, told))
        self._scraper = prometheus.client

    async def _run(
        self, journal: Journal, record: SoakRecord, kept: SupervisedEngine, under_test: SystemUnderTest, pace: Pace
    ) -> None:
        plan, around, run_id, stands = self.plan, self.around, self.bundle.run_id, self._stands
        rules = steering_alerts()
        metrics = SoakMetrics(under_test.registry, rules)
        confirm = confirmer(around.prometheus.client.firing) if around.prometheus else list
        engine = kept.engine
        probe = partial(ask_canary, engine.endpoint, engine.facts.model, key=engine.key)

        def note(action: str, detail: str) -> None:
            metrics.restarts.inc()
            steering.note(action, detail)

        breaker = under_test.llm.breaker
        recovery = Recovery(probe, kept, pace, note, self.settings.load.engine_patience, breaker=breaker)
        steering = Steering(
            pace,
            journal,
            metrics,
            rules,
            run_id,
            recovery.prove,
            around.capture,
            plan.pause_patience,
            confirm=confirm,
            mark=around.mark,
            dry_run=plan.dry_run,
            wall=self._wall,
        )
        number = stands.segments if stands else 0
        sender = Sender(
            under_test.driver,
            recovery,
            stream_of(around.questions, self.settings.load.seed, stands),
            pace,
            plan.profile,
            lambda: segments.number,
            run_id,
            plan.repeats,
            plan.rate,
            plan.questions,
            self.settings.load.request_timeout,
            self.settings.load.seed,
        )
        segments = Segments(journal, record, sender.tally, number)
        if stands and stands.open_segment:
            segments.close_dangling(*stands.open_segment)
        elapsed = self._before.elapsed_seconds if self._before else 0.0
        async with AsyncExitStack() as watched:
            watched.enter_context(orderly(pace.end, self.progress.console.print))
            beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
            if around.alertmanager and around.prometheus:
                await watched.enter_async_context(
                    served(steering, metrics, around.alertmanager.token, around.webhook_port)
                )
                beside = watchers(
                    steering, pace, around.alertmanager, around.prometheus, recovery.prove, confirm, metrics
                )
            if around.prometheus:
                ours = {"what Prometheus scrapes": around.prometheus.targets.are_ours}
                if around.alertmanager:
                    ours["Alertmanager's configuration"] = around.alertmanager.calls_us
                beside.append(partial(keep_possession, pace, ours))
            watched.enter_context(under_test.busy.accounting())
            display = Display(self.progress, plan.duration, elapsed)
            soak = Soak(
                plan,
                self.bundle,
                journal,
                sender,
                segments,
                steering,
                metrics,
                display,
                Recent(record),
                lambda: kept.engine.pid,
                elapsed,
                around.free,
                wall=self._wall,
                beside=beside,
                store=StoreWatch(around.store),
            )
            await soak.run()

    def _report(self, record: SoakRecord, ending: Ending, kept: SupervisedEngine) -> FinishedSoak:
        status = {0: "finished", 6: "stopped"}.get(ending.exit_code, "interrupted")
        point = read_checkpoint(self.bundle)
        recorded = recorded_share(self._scraper, self.bundle.run_id, point.elapsed_seconds if point else 0.0)
        ending = judged(ending, record.held_share(), recorded, record.answered_share())
        self.bundle.note(status=status, why=ending.why, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        facts = kept.engine.facts
        told = {
            "status": status,
            "ending": ending.why,
            "exit_code": ending.exit_code,
            "concurrency": self.plan.concurrency,
            "rate": self.plan.rate,
            "counter_resets": counter_resets(self._scraper, self.bundle.run_id),
            "recorded_share": recorded,
        }
        steered = "steered by alerts" if self.around.alertmanager else "NOT WATCHED: no alerts"
        load = f"{self.plan.rate:g} questions/s" if self.plan.rate else f"{self.plan.concurrency} at a time"
        footer = (
            f"run {self.bundle.run_id}; vLLM {facts.version}; {facts.model}; profile {self.plan.profile}; "
            f"block size {facts.block_size}; layout {self.settings.agent.layout}; "
            f"{load}; {steered}"
            f"{' (DRY RUN)' if self.plan.dry_run else ''}"
        )
        return report(self.bundle, record, told, footer, draws=self.settings.places.figures)
