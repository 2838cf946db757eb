"""The place of a server: its port, kept by one process from before the server's start until after its end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from workload.errors import UsageError
from workload.services.ownership import ANYBODY, ATTEMPTS, InUseError, keeping
from workload.services.process import left_of, stop_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workload.services.ownership import Claimant, Held, Owner
    from workload.services.process import ChildProcess

POLL_SECONDS = 0.2
ORPHAN_SECONDS = 15.0
"""A server whose keeper was killed is told so by the kernel; vLLM takes some seconds to end."""


class Place:
    """Keeps a port of this host for a server of ours.

    Args:
        cache: the folder in which all of our commands look for who keeps what.
        what: the server, for messages.
        port: its port.
        by: who asks.
        clock: seconds, monotonic.
        sleep: waits the given seconds.

    Attributes:
        keeper: who keeps it, where that is somebody else; as of the last `take`.
    """

    def __init__(
        self,
        cache: Path,
        what: str,
        port: int,
        by: Claimant = ANYBODY,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.keeper: Owner | None = None
        self._claim, self._by = keeping(cache, what, port), by
        self._what, self._port = what, port
        self._clock, self._sleep = clock, sleep
        self._stack = ExitStack()
        self._held: Held | None = None

    def take(self, seconds: float) -> bool:
        """Return True once the place is ours, False if somebody else keeps a server there that is ready.

        What is being started or stopped there is waited for, at most `seconds`; so is what a killed keeper left.

        Raises:
            InUseError: it was neither ready nor gone in time.
            UsageError: what was left behind did not end.
        """
        until, has_told = self._clock() + seconds, False
        while True:
            try:
                return self.take_alone(1 if has_told else ATTEMPTS)
            except InUseError:
                self.keeper = self._claim.owner()
                if self.keeper and self.keeper.is_ready:
                    return False
                if self._clock() >= until:
                    raise
            if not has_told:
                who = self.keeper or "another process"
                self._by.say(f"Waiting for {who}, which starts or stops {self._claim.what}.")
                has_told = True
            self._sleep(POLL_SECONDS)

    def await_turn(self, seconds: float) -> None:
        """Return once the place is ours, whatever server somebody else keeps there until then.

        Raises:
            InUseError: it was not given up in time.
        """
        until = self._clock() + seconds
        while True:
            try:
                self.take_alone(1)
            except InUseError:
                if self._clock() >= until:
                    raise
                self._sleep(POLL_SECONDS)
            else:
                return

    def take_alone(self, attempts: int = ATTEMPTS) -> bool:
        """Return True: the place is ours. What a killed keeper left is given time to end, and then stopped.

        Raises:
            InUseError: somebody else has it, whether its server is ready or not.
            UsageError: what a killed keeper left behind did not end.
        """
        self._held = self._stack.enter_context(self._claim.at_once(self._by, attempts=attempts))
        self.keeper = None
        if self._held.before and self._held.before.child:
            self._await_end(self._held.before, self._held.before.child)
        return True

    def note(self, child: ChildProcess | None, *, is_ready: bool = False) -> None:
        """Tell the others which server is kept here, if one is, and whether it is ready."""
        if self._held:
            self._held.note(child=child.identity if child else None, is_ready=is_ready)

    def release(self) -> None:
        """Give the place back; call it when its server has ended."""
        self._held = None
        self._stack.close()

    def _await_end(self, before: Owner, child: tuple[int, float]) -> None:
        until = self._clock() + ORPHAN_SECONDS
        while left_of(child) and self._clock() < until:
            self._sleep(POLL_SECONDS)
        if stay := stop_all(left_of(child)):
            self.release()
            raise UsageError(
                f"{before}, which was killed, left process {stay[0].pid} behind on port {self._port}.",
                f"It does not end; look at it: ps {stay[0].pid}",
            )
