"""A child process that leaves nothing behind: its own session, a log file, an orderly stop of the whole group."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

import psutil

from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PR_SET_PDEATHSIG = 1
SURVIVOR_SECONDS = 5.0
POLL_SECONDS = 0.05
LIBC = "libc.so.6"


@functools.cache
def _prctl() -> Callable[[int, int], int]:
    """Return Linux's prctl. It is looked up before a fork: the loader's lock may be held by another thread then."""
    found: Callable[[int, int], int] = ctypes.CDLL(LIBC).prctl
    return found


class ChildProcess:
    """A started program whose output goes to `log`.

    The child leads its own session, so a Ctrl-C in the terminal reaches only us and we stop our children in order.
    """

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = tuple(argv)
        self.log = log
        prctl = _prctl()

        def terminate_with_parent() -> None:
            """Run in the child before exec: ask Linux to send SIGTERM when the parent dies, even by SIGKILL."""
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            self._popen = subprocess.Popen(
                self.argv,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=terminate_with_parent,  # noqa: PLW1509 - a system call, no lock is taken
            )

    @property
    def pid(self) -> int:
        """The child's process id, which is its process group's id too."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while the child runs."""
        return self._popen.poll()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, grace_seconds: float = 15.0) -> None:
        """Ask the child to end, then whatever is left of its process group, and at last kill what remains.

        The group, not the children, is looked at: workers of a parent that was killed are no longer its children.
        """
        group = [process for process in psutil.process_iter() if _group_of(process) == self.pid]
        if self.exit_code is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_seconds)
        # Asked first: a worker that frees shared memory must see the others end.
        for send in (psutil.Process.terminate, psutil.Process.kill):
            for process in group:
                with contextlib.suppress(psutil.NoSuchProcess):
                    send(process)
            _, group = psutil.wait_procs(group, timeout=SURVIVOR_SECONDS)
        self._popen.wait(SURVIVOR_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def await_ready(
    child: ChildProcess, is_ready: Callable[[], bool], seconds: float, name: str, address: str, remedy: str
) -> None:
    """Return once a server that was just started is ready; one that does not become ready is stopped.

    Raises:
        DependencyDownError: it stopped, or was not ready after `seconds`; the end of its log is in the message.
    """
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as unless_ready:
        unless_ready.callback(child.stop)
        while not is_ready():
            if child.exit_code is not None or time.monotonic() > deadline:
                raise DependencyDownError(
                    f"{name} did not start on {address}. The end of {child.log}:\n{child.tail()}\n", remedy
                )
            time.sleep(POLL_SECONDS)
        unless_ready.pop_all()


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return None  # it ended meanwhile, or is another user's
