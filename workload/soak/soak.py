"""The loop of a soak: it sends, keeps time, rolls segments, writes checkpoints and watches the disk."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from workload.errors import StorageError, UsageError
from workload.harness.loops import main_failure
from workload.services.own_thread import in_own_thread
from workload.services.process import process_tree
from workload.soak.checkpoint import Checkpoint
from workload.soak.display import Display, RecentFigures, status_line
from workload.soak.pace import DISK, Pace
from workload.soak.sender import FINISHED, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from exporter.agent.soak import SoakMetrics
    from workload.corpus.document import StoreWatch
    from workload.record.bundle import Bundle
    from workload.record.journal import Journal
    from workload.soak.plan import SoakPlan
    from workload.soak.segments import Segments
    from workload.soak.steering import Steering

CHECKPOINT_SECONDS = 2.0
LOW_BYTES = 150 * 1024 * 1024
"""Free space below which the soak pauses; it leaves room for the questions in flight and for the report."""


def free_bytes(bundle: Bundle) -> int:
    """Return the free space of the disk with the run's results, in bytes."""
    space = os.statvfs(bundle.folder)
    return space.f_bavail * space.f_frsize


def steady(
    monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
) -> Callable[[], float]:
    """Return a clock of seconds since the epoch that reads the wall clock once and then follows the monotonic one.

    A clock set back would give segments of negative length, and questions outside every segment.
    """
    anchor = wall() - monotonic()
    return lambda: anchor + monotonic()


def resident_bytes(pid: int | None) -> int | None:
    """Return the resident memory of a process and its children; None if the process is not visible."""
    try:
        return sum(psutil.Process(each).memory_info().rss for each in process_tree(pid) or ()) or None
    except psutil.Error:
        return None


@dataclass(kw_only=True)
class Soak:
    """The loop of one process's part of a soak.

    Args:
        elapsed_before: seconds of the duration that earlier processes have used.
        engine_pid: returns the engine's process id; None if the process is not visible.
        free: returns the free space of the results' disk, in bytes.
        background: further tasks for the length of the soak, such as the heartbeat.
        store: detects at the end of each segment whether another process writes to the document store.
    """

    plan: SoakPlan
    bundle: Bundle
    journal: Journal
    sender: Sender
    segments: Segments
    steering: Steering
    metrics: SoakMetrics
    display: Display
    recent: RecentFigures
    engine_pid: Callable[[], int | None]
    elapsed_before: float = 0.0
    free: Callable[[Bundle], int] = free_bytes
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    store: StoreWatch | None = None
    _started: float = field(init=False, default=0.0)

    @property
    def pace(self) -> Pace:
        """How much may be sent."""
        return self.sender.pace

    @property
    def elapsed(self) -> float:
        """The used seconds of the duration, by the monotonic clock: a jump of the wall clock ends nothing."""
        return self.elapsed_before + self.monotonic() - self._started

    async def run(self) -> None:
        """Run until the duration is over or something ends the run earlier; `pace.ending` says why.

        Raises:
            Hop2RagError: the engine, the store or the disk failed; the journal and the last checkpoint stay valid.
        """
        self._started = self.monotonic()
        self.segments.open(self.wall())
        if self.elapsed >= self.plan.duration:
            self.pace.end(FINISHED)
        work = (self.sender.run, self._watch, *self.background)
        tasks = [asyncio.create_task(run()) for run in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        await self.steering.actions.effects.finish()
        failures = [result for result in results if isinstance(result, Exception)]
        failure = main_failure(failures) if failures else None
        if not isinstance(failure, StorageError):
            await self.segments.roll(self.wall(), opens=False)
            await self._look_at_store()
            await self._checkpoint()
        if failure:
            raise failure

    async def _watch(self) -> None:
        segment_until = self.elapsed_before + self.plan.segment
        while True:
            if self.elapsed >= self.plan.duration:
                self.pace.end(FINISHED)
            if self.elapsed >= segment_until and not self.pace.ending:
                segment_until += self.plan.segment
                summary = await self.segments.roll(self.wall())
                await self._look_at_store()
                if summary:
                    self.display.say(
                        f"segment {self.segments.number - 1}: {summary['sent']} sent, {summary['ok']} answered"
                    )
            self._watch_disk()
            self.steering.lose_patience()
            await self._checkpoint()
            await self._show()
            await asyncio.sleep(min(CHECKPOINT_SECONDS, max(0.05, self.plan.duration - self.elapsed)))

    async def _look_at_store(self) -> None:
        if self.store and (change := await in_own_thread(self.store.change)):
            self.steering.actions.note("store changed", change)
            self.display.say(f"The store changed: {change}. Another process writes to it.")

    def _watch_disk(self) -> None:
        try:
            is_low = self.free(self.bundle) < LOW_BYTES
        except OSError:
            is_low = True  # a disk that does not answer cannot be written to
        if is_low and DISK not in self.pace.pauses:
            self.pace.pause(DISK)
            self.steering.actions.note("pause", f"less than {LOW_BYTES // 2**20} MiB free in {self.bundle.root}")
        elif not is_low and DISK in self.pace.pauses:
            self.pace.resume(DISK)
            self.steering.actions.note("lift", "the disk has room again")

    async def _checkpoint(self) -> None:
        lap, index = self.sender.stream.position
        tally, pace = self.sender.tally, self.pace
        in_flight = tally.sent - tally.ok - tally.failed.total() - tally.cancelled
        self.metrics.paused.set(bool(pace.pauses))
        self.metrics.level.set(pace.level)
        sample = {
            "at": self.wall(),
            "segment": self.segments.number,
            "in_flight": pace.in_flight,
            "level": pace.level,
            "is_held": int(bool(pace.pauses)),
            "runner_bytes": psutil.Process().memory_info().rss,
            "engine_bytes": await in_own_thread(resident_bytes, self.engine_pid()),
        }
        self.journal.insert("sample", sample)
        self.segments.keep()
        await self.journal.acknowledge()
        accounting = {
            "scheduled": tally.scheduled,
            "sent": tally.sent,
            "ok": tally.ok,
            "failed": dict(tally.failed),
            "cancelled": tally.cancelled,
            "in_flight": in_flight,
            "dropped": tally.dropped,
            "paused": tally.paused,
        }
        point = Checkpoint(
            at=self.wall(),
            elapsed_seconds=self.elapsed,
            segment=self.segments.number,
            lap=lap,
            index=index,
            level=pace.level,
            holds=tuple(sorted(pace.pauses)),
            accounting=accounting,
            firing=self.steering.firing(),
        )
        # In a thread: the disk must not delay the loop in which first tokens are timed.
        await in_own_thread(point.write, self.bundle)

    async def _show(self) -> None:
        try:
            found = await in_own_thread(self.recent.read, self.wall(), self.journal.last_ids)
        except UsageError:
            return  # the journal cannot be read now, which must not end a run
        failed = self.sender.tally.failed.total()
        alerts = [alert["alert"] for alert in self.steering.firing().values()]
        text = status_line(found, failed, self.pace.level, sorted(self.pace.pauses), alerts)
        self.display.show(text, self.elapsed)
