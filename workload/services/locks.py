"""File locks that name their owner: an engine, a Prometheus or an Alertmanager has one user at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, asdict, dataclass, replace
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

# On disk the locks have the names of earlier releases, so that two releases on one host see each other's.
FILE, FOLDER = ".claim", "claims"
OWNER_ONLY = 0o600
ATTEMPTS, PAUSE_SECONDS = 20, 0.05
"""`FileLock.owner` holds the lock for an instant, which must not look like a lasting owner."""

THIS_HOST = "127.0.0.1"
OWN_NAMES = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})

Instant: TypeAlias = Annotated[float, Field(ge=0, lt=2**33, allow_inf_nan=False)]
ProcessId: TypeAlias = Annotated[int, Field(gt=0, lt=2**31)]


class InUseError(UsageError):
    """Another process holds the lock (exit code 2)."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, as recorded in the lock's file.

    Attributes:
        command: such as "hop2rag soak".
        pid: its process id; 0 if unknown.
        since: when it acquired the lock, in seconds since the epoch.
        child: process id and create time of the server that it runs.
        is_ready: whether that server has answered.
    """

    command: str
    pid: ProcessId
    since: Instant
    run: str | None = None
    _: KW_ONLY
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
class Requester:
    """The command that asks for a lock.

    Attributes:
        command: the command without its options; by default this process's.
        say: prints a line, such as which owner it waits for.
    """

    command: str = ""
    run: str | None = None
    say: Callable[[str], object] = lambda text: sys.stderr.write(f"{text}\n")

    def owner(self) -> Owner:
        """Return the record that other processes read."""
        return Owner(self.command or _command(), os.getpid(), time.time(), self.run)


THIS_COMMAND = Requester()


class OwnerRecord:
    """This process's record in the file of a lock that it holds.

    Attributes:
        killed: the owner whose record was still there, because it was killed; None if there was no record.
    """

    def __init__(self, descriptor: int, by: Requester, path: Path) -> None:
        self._descriptor, self._path = descriptor, path
        self.killed = _read(descriptor)
        self._owner = by.owner()
        self._write()

    def note(self, *, child: tuple[int, float] | None, is_ready: bool) -> None:
        """Record which server runs under this lock, and whether it has answered."""
        self._owner = replace(self._owner, child=child, is_ready=is_ready)
        self._write()

    def _write(self) -> None:
        text = json.dumps(asdict(self._owner)).encode()
        with _usable(self._path):
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))


class FileLock:
    """A lock on a file that names its owner. The kernel releases it when the process ends, even if it is killed.

    Args:
        folder: the file's folder, created if it is missing.
        guards: what the lock guards, for messages.
    """

    def __init__(self, folder: Path, guards: str = "the engine", file: str = FILE) -> None:
        self.guards = guards
        self._path = folder / file

    @contextmanager
    def acquire(self, by: Requester = THIS_COMMAND) -> Iterator[OwnerRecord]:
        """Hold the lock exclusively; before it waits, it says which owner it waits for.

        Raises:
            StorageError: the file cannot be locked.
        """
        with self._open() as descriptor:
            if not self._soon_taken(descriptor):
                by.say(f"Waiting for {self.guards}, which is in use by {self._user()}. Ctrl-C gives up.")
                with _usable(self._path):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            with _cleared(descriptor):
                yield OwnerRecord(descriptor, by, self._path)

    @contextmanager
    def acquire_now(
        self, by: Requester = THIS_COMMAND, remedy: str = "Wait for its end, or stop it.", attempts: int = ATTEMPTS
    ) -> Iterator[OwnerRecord]:
        """Hold the lock exclusively, without waiting for an owner.

        `remedy` is what to do if another process holds it; the `attempts` are 50 ms apart.

        Raises:
            InUseError: another process holds it; the message names the owner.
            StorageError: the file cannot be locked.
        """
        with self._open() as descriptor:
            if not self._soon_taken(descriptor, attempts):
                raise InUseError(f"{self.guards[:1].upper()}{self.guards[1:]} is in use by {self._user()}.", remedy)
            with _cleared(descriptor):
                yield OwnerRecord(descriptor, by, self._path)

    @contextmanager
    def acquire_shared(self) -> Iterator[bool]:
        """Share the lock for one question of the continuous load; yield whether that was possible.

        Raises:
            StorageError: the file cannot be locked.
        """
        with self._open() as descriptor:
            yield self._taken(descriptor, fcntl.LOCK_SH)

    def load_lock(self) -> FileLock:
        """Return the lock of the only continuous load on the thing that this lock guards."""
        return FileLock(self._path.parent, f"the continuous load on {self.guards}", f"{self._path.name}.load")

    def owner(self) -> Owner | None:
        """Return the exclusive owner; None if there is none.

        Raises:
            StorageError: the file cannot be locked.
        """
        with self._open() as descriptor:
            for left in reversed(range(ATTEMPTS)):
                if self._taken(descriptor, fcntl.LOCK_SH):
                    return None
                if os.fstat(descriptor).st_size:
                    break
                time.sleep(PAUSE_SECONDS if left else 0.0)  # between taking a lock and its record, or its release
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
                raise StorageError(f"{self._path} is not a regular file.", "Delete it.")
            yield descriptor
        finally:
            os.close(descriptor)


def engine_lock(cache: Path, address: str) -> FileLock:
    """Return the lock for loading the engine at `address`, a "host:port"; all names of this host mean one lock."""
    name, _, port = address.rpartition(":")
    host = _one_name(name)
    return FileLock(cache / FOLDER, f"the engine on {host}:{port}", f"engine-{host.replace(':', '_')}-{port}")


def port_lock(cache: Path, server: str, port: int) -> FileLock:
    """Return the lock of the process that runs `server` on `port`, from before its start until after its end."""
    return FileLock(cache / FOLDER, f"{server} on port {port}", f"port-{port}")


def _one_name(host: str) -> str:
    """Return a host as lock files name it: every name and address of this host is 127.0.0.1."""
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
    """Turn a failure to create, lock or write the file into `StorageError`; let `BlockingIOError` pass."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise StorageError(
            f"Cannot use {path}: {error.strerror}.", "Free some space, correct its permissions, or set HOP2RAG_CACHE."
        ) from error


@contextmanager
def _cleared(descriptor: int) -> Iterator[None]:
    """Remove the record at the end; only a killed process leaves one."""
    try:
        yield
    finally:
        os.ftruncate(descriptor, 0)


def _read(descriptor: int) -> Owner | None:
    with suppress(ValueError):  # empty, half written, or from another release
        return RECORD.validate_json(os.pread(descriptor, RECORD_BYTES, 0))
    return None


def _command() -> str:
    """Return this process's command without its options and without a question, which is private."""
    name = Path(sys.argv[0]).name
    words = sys.argv[1 : 3 if sys.argv[1:2] == ["run"] else 2]
    return " ".join(["hop2rag" if name == "__main__.py" else name, *(word for word in words if word[:1] != "-")])
