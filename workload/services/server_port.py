"""The port of a server of ours, locked by one process from before the server's start until after its end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from workload.errors import UsageError
from workload.services.locks import ATTEMPTS, THIS_COMMAND, InUseError, Owner, OwnerRecord, Requester, port_lock
from workload.services.process import ChildProcess, left_of, stop_groups

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


POLL_SECONDS = 0.2
ORPHAN_SECONDS = 15.0
"""The kernel signals a server whose parent was killed; vLLM then takes some seconds to end."""


class ServerPort:
    """A port of this host, reserved for a server of ours.

    Args:
        cache: the folder with the locks of all our commands.

    Attributes:
        owner: the other process that owned the port at the last `take`; None if there was none.
    """

    def __init__(
        self,
        cache: Path,
        server: str,
        number: int,
        by: Requester = THIS_COMMAND,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.owner: Owner | None = None
        self._lock, self._by = port_lock(cache, server, number), by
        self.number = number
        self._clock, self._sleep = clock, sleep
        self._stack = ExitStack()
        self._record: OwnerRecord | None = None

    def take(self, seconds: float) -> bool:
        """Return True once the port is ours, False if another process runs a ready server on it.

        Waits at most `seconds` for a server that is starting or stopping, and for what a killed owner left.

        Raises:
            InUseError: the other server was neither ready nor gone in time.
            UsageError: a server left by a killed owner did not end.
        """
        until, has_said = self._clock() + seconds, False
        while True:
            try:
                return self.take_alone(1 if has_said else ATTEMPTS)
            except InUseError:
                self.owner = self._lock.owner()
                if self.owner and self.owner.is_ready:
                    return False
                if self._clock() >= until:
                    raise
            if not has_said:
                owner = self.owner or "another process"
                self._by.say(f"Waiting for {owner}, which is starting or stopping {self._lock.guards}.")
                has_said = True
            self._sleep(POLL_SECONDS)

    def take_when_released(self, seconds: float) -> None:
        """Return once the other owner has released the port and it is ours.

        Raises:
            InUseError: it was not released in time.
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
        """Return True: the port is ours. A server left by a killed owner gets time to end, and is then stopped.

        Raises:
            InUseError: another process owns the port, whether or not its server is ready.
            UsageError: a server left by a killed owner did not end.
        """
        self._record = self._stack.enter_context(self._lock.acquire_now(self._by, attempts=attempts))
        self.owner = None
        if self._record.killed and self._record.killed.child:
            self._await_end(self._record.killed, self._record.killed.child)
        return True

    def note(self, child: ChildProcess | None, *, is_ready: bool = False) -> None:
        """Record which server runs on the port, if any, and whether it is ready."""
        if self._record:
            self._record.note(child=child.identity if child else None, is_ready=is_ready)

    def release(self) -> None:
        """Release the port; call this once its server has ended."""
        self._record = None
        self._stack.close()

    def _await_end(self, killed: Owner, child: tuple[int, float]) -> None:
        until = self._clock() + ORPHAN_SECONDS
        while left_of(child) and self._clock() < until:
            self._sleep(POLL_SECONDS)
        if stay := stop_groups([child]):
            self.release()
            raise UsageError(
                f"{killed} was killed and left process {stay[0].pid} on port {self.number}, which does not end.",
                f"Inspect it with: ps {stay[0].pid}",
            )
