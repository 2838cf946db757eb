"""Claims: an engine, the targets of a Prometheus or an Alertmanager has one user at a time, and one keeper."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from workload.durable import make_folder
from workload.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE = ".claim"
OWNER_ONLY = 0o600
ATTEMPTS, PAUSE_SECONDS = 20, 0.05
"""Whoever asks `Claim.owner` holds a lock for an instant: it must not look like somebody who is there to stay."""


class InUseError(UsageError):
    """Somebody else has what was claimed (exit code 2)."""


@dataclass(frozen=True)
class Owner:
    """Who holds a claim, as the claim's file tells it to whoever comes second.

    Attributes:
        command: such as "hop2rag soak".
        pid: its process id.
        since: when it took the claim, in seconds since the epoch.
        run: its run, where it has one.
        child: process id and create time of the server that it keeps there.
        is_ready: whether that server has answered.
    """

    command: str
    pid: int
    since: float
    run: str | None = None
    child: tuple[int, float] | None = None
    is_ready: bool = False

    def __str__(self) -> str:
        run = f"run {self.run}, " if self.run else ""
        since = datetime.fromtimestamp(self.since, UTC).astimezone()
        return f"{self.command} ({run}process {self.pid}, since {since:%Y-%m-%d %H:%M:%S})"


RECORD = TypeAdapter(Owner)
RECORD_BYTES = 4096


@dataclass(frozen=True)
class Claimant:
    """Who claims, and where it says for whom it waits.

    Attributes:
        command: what the user typed, without its options.
        run: the run that it belongs to.
        say: prints a line.
    """

    command: str = ""
    run: str | None = None
    say: Callable[[str], object] = lambda text: sys.stderr.write(f"{text}\n")

    def owner(self) -> Owner:
        """Return what the others are told."""
        return Owner(self.command or _command(), os.getpid(), time.time(), self.run)


ANYBODY = Claimant()


class Held:
    """A claim that this process holds.

    Attributes:
        before: whose record was found: of a process that was killed while it held the claim, else None.
    """

    def __init__(self, descriptor: int, by: Claimant) -> None:
        self._descriptor = descriptor
        self.before = _read(descriptor)
        self._owner = by.owner()
        self._write()

    def note(self, *, child: tuple[int, float] | None, is_ready: bool) -> None:
        """Tell the others which server is kept here, and whether it has answered."""
        self._owner = replace(self._owner, child=child, is_ready=is_ready)
        self._write()

    def _write(self) -> None:
        text = json.dumps(asdict(self._owner)).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))


class Claim:
    """A lock on a file, which names its owner.

    The kernel lets go of it when a process ends, however it ends, so nobody waits for a run that was killed.

    Args:
        folder: of the file; made if it is not there.
        what: what is claimed, as messages name it.
        name: the file's.
    """

    def __init__(self, folder: Path, what: str = "the engine", name: str = FILE) -> None:
        self.what = what
        self._path = folder / name

    @contextmanager
    def alone(self, waiting: Callable[[], object] | None = None, by: Claimant = ANYBODY) -> Iterator[Held]:
        """Hold it alone; whoever has it is waited for, after `waiting` was called once, or a line says for whom.

        Raises:
            StorageError: the lock cannot be made.
        """
        with self._open() as descriptor:
            if not self._soon_taken(descriptor):
                if waiting:
                    waiting()
                else:
                    by.say(f"Waiting for {self.what}, which is in use by {self._user()}. Ctrl-C gives up.")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            with _cleared(descriptor):
                yield Held(descriptor, by)

    @contextmanager
    def at_once(
        self, by: Claimant = ANYBODY, remedy: str = "Wait for its end, or stop it.", attempts: int = ATTEMPTS
    ) -> Iterator[Held]:
        """Hold it alone, or not at all.

        Args:
            by: who claims.
            remedy: what to do where somebody else has it.
            attempts: how often to try, 50 ms apart.

        Raises:
            InUseError: somebody else has it; the message names the owner.
            StorageError: the lock cannot be made.
        """
        with self._open() as descriptor:
            if not self._soon_taken(descriptor, attempts):
                raise InUseError(f"{self.what[:1].upper()}{self.what[1:]} is in use by {self._user()}.", remedy)
            with _cleared(descriptor):
                yield Held(descriptor, by)

    @contextmanager
    def shared(self) -> Iterator[bool]:
        """Hold it for one question of the continuous load; the value says whether it may be asked.

        Raises:
            StorageError: the lock cannot be made.
        """
        with self._open() as descriptor:
            yield self._taken(descriptor, fcntl.LOCK_SH)

    def owner(self) -> Owner | None:
        """Return who holds it alone; None if nobody does.

        Raises:
            StorageError: the lock cannot be made.
        """
        with self._open() as descriptor:
            if self._taken(descriptor, fcntl.LOCK_SH):
                return None
            return _read(descriptor) or Owner("another process", 0, time.time())

    def _user(self) -> str:
        owner = self.owner()
        return str(owner) if owner else "a question of `hop2rag load`"

    def _soon_taken(self, descriptor: int, attempts: int = ATTEMPTS) -> bool:
        for left in reversed(range(attempts)):
            if self._taken(descriptor, fcntl.LOCK_EX):
                return True
            time.sleep(PAUSE_SECONDS if left else 0.0)
        return False

    def _taken(self, descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def _open(self) -> Iterator[int]:
        try:
            make_folder(self._path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, OWNER_ONLY)
        except OSError as error:
            raise StorageError(
                f"Cannot open {self._path}: {error.strerror}.", "Free space, or mend its permissions."
            ) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def engine_claim(cache: Path, address: str) -> Claim:
    """Return the claim of those who load the engine at `address`, a "host:port"; this host has one name in it."""
    host, _, port = address.rpartition(":")
    host = "127.0.0.1" if host in {"localhost", "[::1]", "0.0.0.0"} else host.strip("[]").lower()  # noqa: S104 - names
    return Claim(cache / "claims", f"the engine on {host}:{port}", f"engine-{host.replace(':', '_')}-{port}")


def keeping(cache: Path, what: str, port: int) -> Claim:
    """Return the claim of the process that keeps a server on `port`: from before its start until after its end."""
    return Claim(cache / "claims", f"{what} on port {port}", f"port-{port}")


@contextmanager
def _cleared(descriptor: int) -> Iterator[None]:
    """Leave no record behind: only a process that was killed does."""
    try:
        yield
    finally:
        os.ftruncate(descriptor, 0)


def _read(descriptor: int) -> Owner | None:
    with suppress(ValueError):  # empty, or being written, or of another release
        return RECORD.validate_json(os.pread(descriptor, RECORD_BYTES, 0))
    return None


def _command() -> str:
    """Return the command that this process was started with, without options: they may hold what is nobody's."""
    words = [Path(sys.argv[0]).name]
    for word in sys.argv[1:3]:
        if word.startswith("-"):
            break
        words.append(word)
    return " ".join(words)
