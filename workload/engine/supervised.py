"""Engines that outlive one start: one is restarted when it dies or hangs, one is shared by equal starts."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

import psutil

from workload.errors import DependencyDownError, Hop2RagError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workload.engine.launcher import Launcher, RunningEngine
    from workload.engine.profile import VllmProfile


PAUSES_SECONDS = (0.0, 2.0, 5.0, 15.0, 30.0)
"""Pauses before the first, second, ... start after a failure; the last one repeats."""

CLOSE_SECONDS = 10.0
"""How long the end waits for a start in progress; its process ends with ours anyway."""

MOST_RESTARTS, WITHIN_SECONDS = 5, 900.0
"""The circuit breaker: an engine that needs more restarts will not recover by itself."""


class SupervisedEngine:
    """Starts a profile and, on request, restarts it on the same endpoint. A context manager.

    One thread that lives as long as the context restarts it, because Linux ends a child with parent-death signal when
    the *thread* that started it ends. A start in progress does not delay the end of the context.

    Args:
        restarts: whether the engine is ours to restart; another user's is only waited for.
    """

    def __init__(
        self,
        launcher: Launcher,
        profile: VllmProfile,
        *,
        restarts: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.restarts = restarts
        self._launcher, self._profile = launcher, profile
        self._clock, self._sleep = clock, sleep
        self._stack = ExitStack()
        self._begun: deque[float] = deque()
        self._wanted: SimpleQueue[Future[int] | None] = SimpleQueue()
        self._last: Future[int] | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def __enter__(self) -> Self:
        # In the caller's thread, so that Ctrl-C ends a first start at once.
        self.engine: RunningEngine = self._start()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wanted.put(None)
        with suppress(TimeoutError, Hop2RagError):
            if self._last:
                self._last.result(CLOSE_SECONDS)
        self._stack.close()

    @property
    def has_died(self) -> bool:
        """Whether its process has ended; False also if the process is not visible."""
        if self.engine.pid is None:
            return False
        try:
            return bool(psutil.Process(self.engine.pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    def restart(self) -> Future[int]:
        """Stop what is left of the engine and start it again, in the background; the result is the number of starts.

        Its exception is a `DependencyDownError` if the engine was started too often within a quarter of an hour, or
        another `Hop2RagError` if it can never start: a flag, the port or the model is wrong.
        """
        self._last = Future()
        self._wanted.put(self._last)
        return self._last

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            try:
                wanted.set_result(self._restart())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                wanted.set_exception(error)

    def _restart(self) -> int:
        for number, pause in enumerate((*PAUSES_SECONDS, *[PAUSES_SECONDS[-1]] * MOST_RESTARTS), 1):
            self._stack.close()
            self._admit()
            self._sleep(pause)
            try:
                self.engine = self._start()
            except DependencyDownError as error:
                reason = error
            else:
                return number
        raise reason

    def _admit(self) -> None:
        now = self._clock()
        while self._begun and self._begun[0] <= now - WITHIN_SECONDS:
            self._begun.popleft()
        if len(self._begun) >= MOST_RESTARTS:
            raise DependencyDownError(
                f"The engine was started again {len(self._begun)} times within {WITHIN_SECONDS / 60:.0f} minutes and "
                "does not stay up.",
                "Look at its log, then continue with --resume.",
            )
        self._begun.append(now)

    def _start(self) -> RunningEngine:
        return self._stack.enter_context(self._launcher.start(self._profile))


class SharedEngine:
    """A launcher around another; use it in a `with` block, which stops the last engine at its end.

    Each start on the same engine needs its own cache salt, or it begins with a warm cache.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._stack = ExitStack()
        self._running: tuple[VllmProfile, RunningEngine] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    @contextmanager
    def start(self, profile: VllmProfile) -> Iterator[RunningEngine]:
        """Run `profile`: the engine that is up if its flags are the same, else a fresh one. Raises as the launcher."""
        wanted = profile.unnamed
        if self._running is None or self._running[0] != wanted:
            self._stop()
            self._running = wanted, self._stack.enter_context(self._launcher.start(profile))
        yield self._running[1]

    def _stop(self) -> None:
        self._running = None
        self._stack.close()
