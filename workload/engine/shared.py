"""Keeps an engine up between two starts with the same flags: a restart takes half a minute."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.engine.launcher import Launcher, RunningEngine
    from workload.engine.profile import VllmProfile


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
