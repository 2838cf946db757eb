"""Claims: an engine, the targets of a Prometheus or an Alertmanager has one user at a time, and one keeper."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import psutil
from pydantic import Field, TypeAdapter

from exporter.plain_text import plain
from workload.errors import StorageError, UsageError
from workload.files.atomic_file import make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE = ".claim"
OWNER_ONLY = 0o600
ATTEMPTS, PAUSE_SECONDS = 20, 0.05
"""Whoever asks `Claim.owner` holds a lock for an instant: it must not look like somebody who is there to stay."""


THIS_HOST = "127.0.0.1"
OWN_NAMES = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})

Instant: TypeAlias = Annotated[float, Field(ge=0, lt=2**33, allow_inf_nan=False)]
ProcessId: TypeAlias = Annotated[int, Field(gt=0, lt=2**31)]


class InUseError(UsageError):
    """Somebody else has what was claimed (exit code 2)."""


@dataclass(frozen=True)
class Owner:
    """Who holds a claim, as the claim's file tells it to whoever comes second.

    Attributes:
        command: such as "hop2rag soak".
        pid: its process id; 0 where it is not known.
        since: when it took the claim, in seconds since the epoch.
        run: its run, where it has one.
        child: process id and create time of the server that it keeps there.
        is_ready: whether that server has answered.
    """

    command: str
    pid: ProcessId
    since: Instant
    run: str | None = None
    child: tuple[ProcessId, Instant] | None = None
    is_ready: bool = False

    def __str__(self) -> str:
        command, run = (" ".join(plain(text).split()) for text in (self.command, self.run or ""))
        if not self.pid:
            return command
        run = f"run {run}, " if run else ""
        since = datetime.fromtimestamp(self.since, UTC).astimezone()
        return f"{command} ({run}process {self.pid}, since {since:%Y-%m-%d %H:%M:%S})"


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

    def __init__(self, descriptor: int, by: Claimant, path: Path) -> None:
        self._descriptor, self._path = descriptor, path
        self.before = _read(descriptor)
        self._owner = by.owner()
        self._write()

    def note(self, *, child: tuple[int, float] | None, is_ready: bool) -> None:
        """Tell the others which server is kept here, and whether it has answered."""
        self._owner = replace(self._owner, child=child, is_ready=is_ready)
        self._write()

    def _write(self) -> None:
        text = json.dumps(asdict(self._owner)).encode()
        with _usable(self._path):
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
                with _usable(self._path):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            with _cleared(descriptor):
                yield Held(descriptor, by, self._path)

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
                yield Held(descriptor, by, self._path)

    @contextmanager
    def shared(self) -> Iterator[bool]:
        """Hold it for one question of the continuous load; the value says whether it may be asked.

        Raises:
            StorageError: the lock cannot be made.
        """
        with self._open() as descriptor:
            yield self._taken(descriptor, fcntl.LOCK_SH)

    def load(self) -> Claim:
        """Return the claim of the one continuous load on what is claimed here."""
        return Claim(self._path.parent, f"the continuous load on {self.what}", f"{self._path.name}.load")

    def owner(self) -> Owner | None:
        """Return who holds it alone; None if nobody does.

        Raises:
            StorageError: the lock cannot be made.
        """
        with self._open() as descriptor:
            if self._taken(descriptor, fcntl.LOCK_SH):
                return None
            return _read(descriptor) or Owner("another process", 0, 0.0)

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
            with _usable(self._path):
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def _open(self) -> Iterator[int]:
        with _usable(self._path):
            make_folder(self._path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, OWNER_ONLY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StorageError(f"{self._path} is no file.", "Delete it.")
            yield descriptor
        finally:
            os.close(descriptor)


def engine_claim(cache: Path, address: str) -> Claim:
    """Return the claim of those who load the engine at `address`, a "host:port"; this host has one name in it."""
    name, _, port = address.rpartition(":")
    host = _one_name(name)
    return Claim(cache / "claims", f"the engine on {host}:{port}", f"engine-{host.replace(':', '_')}-{port}")


def keeping(cache: Path, what: str, port: int) -> Claim:
    """Return the claim of the process that keeps a server on `port`: from before its start until after its end."""
    return Claim(cache / "claims", f"{what} on port {port}", f"port-{port}")


def _one_name(host: str) -> str:
    """Return a host as claims name it: this one is 127.0.0.1 by each of its names and addresses."""
    host = host.strip("[]").rstrip(".").lower()
    if host in OWN_NAMES or host == socket.gethostname().lower():
        return THIS_HOST
    try:
        address = ip_address(host)
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    own = {each.address for interface in psutil.net_if_addrs().values() for each in interface}
    is_own = address.is_loopback or address.is_unspecified or str(address) in own
    return THIS_HOST if is_own else str(address)


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Say in one line that a claim's file cannot be made, locked or written; that somebody holds it passes."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise StorageError(
            f"Cannot use {path}: {error.strerror}.", "Free space, mend its permissions, or set HOP2RAG_CACHE."
        ) from error


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
    """Return the command that this process was started with; options and questions are nobody else's."""
    name = Path(sys.argv[0]).name
    words = sys.argv[1 : 3 if sys.argv[1:2] == ["run"] else 2]
    return " ".join(["hop2rag" if name == "__main__.py" else name, *(word for word in words if word[:1] != "-")])
