"""An engine that is started again: how often, how late, and when no more."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import psutil
import pytest

from workload.engine import supervised as supervised_module
from workload.engine.launcher import RunningEngine
from workload.engine.profile import PROFILES
from workload.engine.supervised import MOST_RESTARTS, WITHIN_SECONDS, SupervisedEngine
from workload.errors import DependencyDownError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.engine.profile import VllmProfile


class Launcher:
    """Starts nothing, fails on request, and remembers starts, stops and their threads."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.events: list[str] = []
        self.threads: set[int] = set()
        self.now = 0.0
        self.waits: list[float] = []

    @contextmanager
    def start(self, _: VllmProfile) -> Iterator[RunningEngine]:
        """Start once more."""
        self.threads.add(threading.get_ident())
        if self.failures:
            raise self.failures.pop(0)
        self.events.append("start")
        yield RunningEngine("http://engine", cast("Any", None), None, None)
        self.events.append("stop")

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.waits.append(seconds)
        self.now += seconds

    def kept(self) -> SupervisedEngine:
        """Return an engine that is kept up by this launcher, on its clock."""
        return SupervisedEngine(self, PROFILES["base"], clock=lambda: self.now, sleep=self.sleep)


def test_it_is_started_again_after_it_was_stopped() -> None:
    """Two engines on one port would fight for it, and a hung one keeps its memory."""
    launcher = Launcher()
    with launcher.kept() as kept:
        assert kept.restart().result(60) == 1
    assert launcher.events == ["start", "stop", "start", "stop"]


def test_one_thread_starts_it_again() -> None:
    """Linux ends the engine when the thread that started it ends: a thread of a pool would take it along."""
    launcher = Launcher()
    with launcher.kept() as kept:
        for _ in range(3):
            kept.restart().result(60)
    assert len(launcher.threads - {threading.get_ident()}) == 1


def test_pauses_grow_while_it_does_not_start() -> None:
    """A machine that is short of memory needs a moment, not a hammer."""
    launcher = Launcher()
    with launcher.kept() as kept:
        launcher.failures = [DependencyDownError("no memory")] * 3
        assert kept.restart().result(60) == 4
    assert launcher.waits == [0.0, 2.0, 5.0, 15.0]


def test_the_breaker_opens_and_says_so() -> None:
    """An engine that dies every minute is not measured, it is nursed; the run ends with the dependency's exit code."""
    launcher = Launcher()
    with launcher.kept() as kept:
        for _ in range(MOST_RESTARTS):
            kept.restart().result(60)
        with pytest.raises(DependencyDownError, match="does not stay up") as raised:
            kept.restart().result(60)
    assert raised.value.exit_code == 4
    assert launcher.events.count("start") == launcher.events.count("stop") == 1 + MOST_RESTARTS


def test_restarts_long_ago_do_not_count() -> None:
    """One a night is no fault of tonight's."""
    launcher = Launcher()
    with launcher.kept() as kept:
        for _ in range(3 * MOST_RESTARTS):
            launcher.now += WITHIN_SECONDS
            kept.restart().result(60)


def test_what_can_never_start_is_not_tried_again() -> None:
    """A port that somebody else took, a flag that this vLLM does not know: patience changes nothing."""
    launcher = Launcher()
    with launcher.kept() as kept:
        launcher.failures = [UsageError("the port is taken")]
        with pytest.raises(UsageError, match="taken"):
            kept.restart().result(60)
    assert launcher.waits == [0.0]


def test_a_first_start_that_fails_leaves_nothing() -> None:
    """The thread would keep the process alive."""
    launcher = Launcher()
    launcher.failures = [DependencyDownError("no memory")]
    before = threading.active_count()
    with pytest.raises(DependencyDownError), launcher.kept():
        pass
    assert threading.active_count() == before


def test_a_start_under_way_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while an engine is being started again: it may take five minutes to be ready."""
    monkeypatch.setattr(supervised_module, "CLOSE_SECONDS", 0.05)
    launcher, released = Launcher(), threading.Event()
    with launcher.kept() as kept:
        launcher.sleep = lambda _: released.wait()  # type: ignore[assignment,method-assign]
        kept._sleep = launcher.sleep
        kept.restart()
    released.set()  # only this ends the start: had the end waited for it, this line would never be reached
    kept._thread.join(60)


@pytest.mark.parametrize(("state", "died"), [("running", False), ("zombie", True), (None, True)])
def test_a_dead_process_is_distinguished_from_a_silent_one(
    monkeypatch: pytest.MonkeyPatch, state: str | None, died: bool
) -> None:
    """A dead one is started at once; a silent one gets its time."""

    class Process:
        def __init__(self, pid: int) -> None:
            if state is None:
                raise psutil.NoSuchProcess(pid)

        def status(self) -> str:
            return str(state)

    monkeypatch.setattr(supervised_module.psutil, "Process", Process)
    with Launcher().kept() as kept:
        assert not kept.has_died
        kept.engine = RunningEngine("http://engine", cast("Any", None), None, 4711)
        assert kept.has_died is died
