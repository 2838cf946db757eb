"""Composes a soak from the engine, the services and the journal, runs it, and writes its report."""

from __future__ import annotations

from contextlib import AbstractContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.agent.soak import SoakMetrics
from workload.agent.reuse_order import ReuseOrder
from workload.corpus.document import StoreWatch
from workload.engine.probe import ask_canary
from workload.engine.profile import PROFILES
from workload.engine.supervised import SupervisedEngine
from workload.errors import Hop2RagError, StorageError
from workload.harness.process_memory import share_one_arena
from workload.harness.system_under_test import SystemUnderTest, serve_agent
from workload.record.journal import Journal
from workload.report.footer import options_in_words
from workload.services.alert import Confirm, confirmer, steering_alerts
from workload.services.alertmanager import LocalAlertmanager
from workload.services.exporter_process import start_exporter
from workload.services.scrape_registration import scraped
from workload.services.targets import ArmLabels
from workload.settings import MEASURED, Settings
from workload.soak.actions import ActionLog, AlertEffects
from workload.soak.alert_watch import confirmed_alerts, heartbeat_in, served, watch_ownership
from workload.soak.checkpoint import read_checkpoint, stream_of
from workload.soak.display import Display, RecentFigures
from workload.soak.heartbeat import Heartbeat
from workload.soak.pace import Ending, Pace, judge
from workload.soak.record import ResumePoint, SoakRecord
from workload.soak.recovery import Recovery
from workload.soak.reporting import FinishedSoak, report
from workload.soak.segments import Segments
from workload.soak.sender import Sender, SoakTally
from workload.soak.signals import orderly
from workload.soak.soak import Soak, steady
from workload.soak.steering import Steering
from workload.soak.summary import counter_resets, recorded_share

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from rich.progress import Progress

    from workload.engine.launcher import RunningEngine
    from workload.record.bundle import Bundle
    from workload.services.prometheus import PrometheusClient
    from workload.soak.environment import SoakEnvironment
    from workload.soak.plan import SoakPlan

EXPERIMENT = "soak"
REACH_FACTOR = 4
"""How many times the engine's KV pool the reuse bound remembers: far more than could still be cached."""

WATCHED_ONLY = {"dry_run", "alerts", "pause_patience"}
"""The options that may differ when a soak resumes: they change who watches it, not what it measures."""


@dataclass
class SoakSession:
    """One process's part of a soak."""

    environment: SoakEnvironment
    settings: Settings
    plan: SoakPlan
    bundle: Bundle
    progress: Progress
    _wall: Callable[[], float] = field(init=False, default_factory=steady)
    _scraper: PrometheusClient | None = field(init=False, default=None)

    def run(self) -> FinishedSoak:
        """Run or resume the soak and write its report, also if something ended it early.

        Raises:
            Hop2RagError: the engine, the store, Prometheus or the disk failed. The run can be resumed; unless the disk
                failed, its report so far is written.
        """
        share_one_arena()
        checkpoint, has_journal = read_checkpoint(self.bundle), self.bundle.journal.exists()
        elapsed = checkpoint.elapsed_seconds if checkpoint else 0.0
        with ExitStack() as stack:
            config = {
                "settings": self.settings.flat(*MEASURED),
                "plan": self.plan.model_dump(mode="json", exclude=WATCHED_ONLY),
            }
            journal = stack.enter_context(Journal(self.bundle.journal, config))
            record = SoakRecord(self.bundle.journal)
            # Read only now: the journal was checked when it was opened.
            resume_point = record.resume_point() if has_journal else None
            journal.close_interrupted()
            profile = PROFILES[self.plan.profile]
            supervised = stack.enter_context(
                SupervisedEngine(self.environment.launcher, profile, restarts=self.environment.owns_engine)
            )
            under_test = stack.enter_context(self._serve_agent(supervised.engine, journal))
            self._scrape(stack, supervised.engine, under_test)
            self.bundle.note(engine=supervised.engine.facts.as_dict())
            pace = Pace(self.plan.concurrency)
            failure = None
            try:
                under_test.run(
                    self._run(journal, record, resume_point, elapsed, supervised, under_test=under_test, pace=pace)
                )
            except StorageError:
                raise
            except Hop2RagError as error:
                failure = error
                if not record.has_begun():
                    raise  # there is nothing to report on
            ending = pace.ending if not failure else Ending(f"given up: {failure}", failure.exit_code)
            finished = self._report(record, ending or Ending("ended", 1), supervised)
        if failure:
            raise failure
        return finished

    def _serve_agent(self, engine: RunningEngine, journal: Journal) -> AbstractContextManager[SystemUnderTest]:
        facts, store, embedder = engine.facts, self.environment.store, self.environment.embedder
        blocks = facts.num_gpu_blocks
        reuse = ReuseOrder(facts.block_size, blocks and REACH_FACTOR * blocks, facts.adapter)
        return serve_agent(engine, self.settings, store, embedder, journal=journal, reuse=reuse)

    def _scrape(self, stack: ExitStack, engine: RunningEngine, under_test: SystemUnderTest) -> None:
        """Have Prometheus scrape the soak for as long as the stack is open, and wait until it does."""
        prometheus = self.environment.prometheus
        if prometheus is None:
            return
        exporter = self.settings.places.exporter
        if exporter is None:
            port = urlsplit(engine.endpoint).port if engine.pid else None
            interval = self.settings.load.gpu_interval_ms
            exporter = stack.enter_context(start_exporter(None, interval, self.bundle.folder, engine_port=port))
        labels = ArmLabels(self.bundle.run_id, EXPERIMENT, self.plan.profile)
        targets = {"vllm": engine.servers, "exporter": [exporter], "workload": [under_test.address]}
        stack.enter_context(scraped(prometheus.targets, prometheus.client, labels, targets))
        self._scraper = prometheus.client

    async def _run(
        self,
        journal: Journal,
        record: SoakRecord,
        resume_point: ResumePoint | None,
        elapsed: float,
        supervised: SupervisedEngine,
        *,
        under_test: SystemUnderTest,
        pace: Pace,
    ) -> None:
        plan, environment, run = self.plan, self.environment, self.bundle.run_id
        rules, engine = steering_alerts(), supervised.engine
        metrics = SoakMetrics(under_test.registry, rules)
        confirm = confirmer(environment.prometheus.client.firing) if environment.prometheus else list
        effects = AlertEffects(environment.capture, environment.mark)
        actions = ActionLog(journal=journal, metrics=metrics, effects=effects, dry_run=plan.dry_run, wall=self._wall)
        recovery = Recovery(
            probe=partial(ask_canary, engine.endpoint, engine.facts.model, key=engine.key),
            supervised=supervised,
            pace=pace,
            note=actions.restarted,
            patience_seconds=self.settings.load.engine_patience,
            breaker=under_test.llm.breaker,
        )
        steering = Steering(
            pace=pace,
            actions=actions,
            rules=rules,
            run=run,
            prove=recovery.prove,
            patience_seconds=plan.pause_patience,
            confirm=confirm,
        )
        tally = SoakTally()
        segments = Segments(journal, record, tally, resume_point.segments if resume_point else 0)
        if resume_point and resume_point.open_segment:
            segments.close_dangling(*resume_point.open_segment)
        sender = Sender(
            driver=under_test.driver,
            gate=recovery,
            stream=stream_of(environment.questions, self.settings.load.seed, resume_point),
            pace=pace,
            arm=plan.profile,
            segment=lambda: segments.number,
            salt=run,
            repeats=plan.repeats,
            rate=plan.rate,
            most=plan.questions,
            drain_seconds=self.settings.load.request_timeout,
            seed=self.settings.load.seed,
            tally=tally,
        )
        async with AsyncExitStack() as stack:
            stack.enter_context(orderly(pace.end, self.progress.console.print))
            stack.enter_context(under_test.busy.accounting())
            soak = Soak(
                plan=plan,
                bundle=self.bundle,
                journal=journal,
                sender=sender,
                segments=segments,
                steering=steering,
                metrics=metrics,
                display=Display(self.progress, plan.duration, elapsed),
                recent=RecentFigures(record),
                engine_pid=lambda: supervised.engine.pid,
                elapsed_before=elapsed,
                free=environment.free,
                wall=self._wall,
                background=await self._watch(stack, steering, pace, recovery, confirm, metrics=metrics),
                store=StoreWatch(environment.store),
            )
            await soak.run()

    async def _watch(
        self,
        stack: AsyncExitStack,
        steering: Steering,
        pace: Pace,
        recovery: Recovery,
        confirm: Confirm,
        *,
        metrics: SoakMetrics,
    ) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Serve the webhook for as long as the stack is open, and return the tasks that watch the soak."""
        prometheus, alertmanager = self.environment.prometheus, self.environment.alertmanager
        if prometheus is None:
            return []
        ours = {"what Prometheus scrapes": prometheus.targets.are_ours}
        if alertmanager is None:
            return [partial(watch_ownership, pace, ours)]
        servers = {"Prometheus": prometheus.client.ready, "Alertmanager": alertmanager.client.ready}
        if isinstance(alertmanager, LocalAlertmanager):
            ours["Alertmanager's configuration"] = alertmanager.calls_us
        else:
            servers["the Hop2RagWatchdog in Alertmanager"] = heartbeat_in(alertmanager.client, steering.beat)
        host, port = self.environment.webhook_host, self.environment.webhook_port
        await stack.enter_async_context(served(steering, metrics, alertmanager.token, port, host=host))
        heartbeat = Heartbeat(
            steering=steering,
            pace=pace,
            servers=servers,
            alerts=confirmed_alerts(alertmanager.client, confirm, metrics),
            prove=recovery.prove,
        )
        return [steering.keep_lifting, heartbeat.keep_watching, partial(watch_ownership, pace, ours)]

    def _report(self, record: SoakRecord, ending: Ending, supervised: SupervisedEngine) -> FinishedSoak:
        status = {0: "finished", 6: "stopped"}.get(ending.exit_code, "interrupted")
        point = read_checkpoint(self.bundle)
        recorded = recorded_share(self._scraper, self.bundle.run_id, point.elapsed_seconds if point else 0.0)
        ending = judge(ending, record.paused_share(), recorded, record.answered_share())
        self.bundle.note(status=status, why=ending.why, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        summary = {
            "status": status,
            "ending": ending.why,
            "exit_code": ending.exit_code,
            "concurrency": self.plan.concurrency,
            "rate": self.plan.rate,
            "counter_resets": counter_resets(self._scraper, self.bundle.run_id),
            "recorded_share": recorded,
        }
        facts = supervised.engine.facts
        steered = "steered by alerts" if self.environment.alertmanager else "NOT WATCHED: no alerts"
        load = f"{self.plan.rate:g} questions/s" if self.plan.rate else f"{self.plan.concurrency} at a time"
        footer = (
            f"run {self.bundle.run_id}; vLLM {facts.version}; {facts.model}; profile {self.plan.profile}; "
            f"block size {facts.block_size}; {options_in_words(self.settings)}; "
            f"{load}; {steered}{' (DRY RUN)' if self.plan.dry_run else ''}"
        )
        return report(self.bundle, record, summary, footer, draws=self.settings.places.figures)
