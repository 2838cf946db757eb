"""A child process that leaves nothing behind: its own session, a log file, an orderly stop of the whole group."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import random
import signal
import socket
import subprocess
import time
from itertools import cycle
from typing import TYPE_CHECKING, Self

import psutil

from workload.errors import DependencyDownError, UsageError
from workload.files.atomic_file import make_folder
from workload.services.child_environment import child_environment
from workload.services.listener import listeners

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

PR_SET_PDEATHSIG = 1
SURVIVOR_SECONDS = 5.0
STOP_ROUNDS = 3
POLL_SECONDS = 0.05
LIBC = "libc.so.6"


@functools.cache
def _prctl() -> Callable[[int, int], int]:
    """Return Linux's prctl, looked up before a fork: in the child another thread may hold the loader's lock."""
    found: Callable[[int, int], int] = ctypes.CDLL(LIBC).prctl
    return found


class ChildProcess:
    """A started program whose output goes to `log`.

    The child leads its own session: Ctrl-C in the terminal reaches only us, and we stop our children in order.

    Args:
        env: its whole environment; by default the variables that every program needs, see `child_environment`.
    """

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = tuple(argv)
        self.log = log
        prctl = _prctl()

        def terminate_with_parent() -> None:
            """Run in the child before exec: ask Linux to send SIGTERM when the parent dies, even by SIGKILL."""
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        make_folder(log.parent)
        with log.open("wb") as stream:
            self._popen = subprocess.Popen(
                self.argv,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=child_environment() if env is None else env,
                start_new_session=True,
                preexec_fn=terminate_with_parent,  # noqa: PLW1509 - a system call, no lock is taken
            )

    @property
    def pid(self) -> int:
        """The child's process id, which is its process group's id too."""
        return self._popen.pid

    @property
    def identity(self) -> tuple[int, float]:
        """The process id and create time; no later process has both."""
        try:
            return self.pid, psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return self.pid, 0.0

    def leads(self, pid: int) -> bool:
        """Return whether a process is the child or in its process group."""
        try:
            return os.getpgid(pid) == self.pid
        except OSError:
            return False  # the process has ended

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while the child runs."""
        return self._popen.poll()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, grace_seconds: float = 15.0) -> None:
        """Terminate the child, then the rest of its process group, and kill what remains.

        The group counts, not the children: the workers of a killed parent are no longer its children.
        """
        identity, group = self.identity, group_of(self.pid)
        if self.exit_code is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_seconds)
        stop_all(group)
        self._popen.wait(SURVIVOR_SECONDS)
        stop_groups([identity])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def await_ready(
    child: ChildProcess, is_ready: Callable[[], bool], seconds: float, name: str, address: str, *, remedy: str
) -> None:
    """Return once the server that was started answers; otherwise stop it.

    `name`, `address` ("host:port") and `remedy` are for messages.

    Raises:
        UsageError: another process has the port and answers instead.
        DependencyDownError: it stopped, or was not ready after `seconds`; the message ends with its log.
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
        require_own(child, int(address.rpartition(":")[2]), name)
        unless_ready.pop_all()


def require_own(child: ChildProcess, port: int, name: str) -> None:
    """Raise `UsageError` unless every process that listens on a port of 127.0.0.1 is our child or in its group.

    Servers with SO_REUSEPORT, such as vLLM, can share a port, and each then gets some of the requests.
    """
    found = listeners(port)
    stranger = next((each for each in found if each.pid is None or not child.leads(each.pid)), None)
    if stranger or not found:
        other = stranger or "a process that has ended"
        raise UsageError(f"{name} was started, but {other} answers on port {port}.", "Stop it, or pick another port.")


def group_of(leader: int) -> list[psutil.Process]:
    """Return the living processes of a process group."""
    return [process for process in psutil.process_iter() if _is_member(process, leader)]


def left_of(child: tuple[int, float]) -> list[psutil.Process]:
    """Return the living processes of a child's group, by its `ChildProcess.identity`, also for another parent's child.

    Linux does not reuse a process id while a group has it, so the group of an ended leader is still its own, unless
    the host was rebooted or a later process has the id.
    """
    pid, created = child
    with contextlib.suppress(psutil.NoSuchProcess):
        if psutil.Process(pid).create_time() != created:
            return []
    return group_of(pid) if created > psutil.boot_time() else []


def stop_all(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Terminate processes, kill those that do not end, and return those that still live."""
    # Terminate all first: a worker that frees shared memory must see the others end.
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                send(process)
        _, processes = psutil.wait_procs(processes, timeout=SURVIVOR_SECONDS)
    return processes


def stop_groups(children: Collection[tuple[int, float]]) -> list[psutil.Process]:
    """Stop the groups of children, see `left_of`, with what they start meanwhile; return what still lives."""
    for _ in range(STOP_ROUNDS):
        if left := [process for child in children for process in left_of(child)]:
            stop_all(left)
    return [process for child in children for process in left_of(child)]


def process_tree(pid: int | None) -> list[int] | None:
    """Return the ids of a process and all its descendants; None if the process is not visible."""
    if pid is None:
        return None
    try:
        root = psutil.Process(pid)
        return [root.pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.Error:
        return None


def _is_member(process: psutil.Process, leader: int) -> bool:
    try:
        return os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False  # it has ended, or belongs to another user


HOST = "127.0.0.1"


# Below the ports of outgoing connections (net.ipv4.ip_local_port_range, from 32768 on): one of those could be taken by
# a connection before the server listens on it, or while the server restarts.
PORTS = range(20_000, 32_768)


# Shuffled once per process, so that it never chooses a port twice; independent of the generator that tests seed.
_ORDER = cycle(random.SystemRandom().sample(PORTS, len(PORTS)))


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, and that no outgoing connection will take."""
    return next(port for port in _ORDER if is_free(port))


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port of 127.0.0.1."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closing connections do not count
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
        return True
