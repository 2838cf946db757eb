"""A server of ours on 127.0.0.1: started, or shared with the command that runs it, and stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, Self

from workload.errors import DependencyDownError, UsageError
from workload.files import atomic_file
from workload.services.listener import find_listener
from workload.services.locks import FileLock, Requester
from workload.services.process import HOST, ChildProcess, await_ready, is_free
from workload.services.server_port import ServerPort

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class LocalServer(ABC):
    """A server with its files in `cache/NAME-PORT`. A context manager.

    Attributes:
        name: the server's name in messages, in its folder and in the flag that chooses its port.
        ready_seconds: how long a start may take.
        remedy: what to do if it does not start.
        child: its process while it runs; None if it was not started here.
    """

    name: ClassVar[str]
    ready_seconds: ClassVar[float] = 60.0
    remedy: ClassVar[str]

    def __init__(self, cache: Path, port: int, by: Requester) -> None:
        key = self.name.lower()
        self.address = f"{HOST}:{port}"
        self.url = f"http://{self.address}"
        self.child: ChildProcess | None = None
        self._folder = cache / f"{key}-{port}"
        self._log = self._folder / f"{key}.log"
        self._flag = f"--{key}-port"
        self._port = ServerPort(cache, self.name, port, by)
        self._argv: Sequence[str] = ()
        self._environment: Mapping[str, str] | None = None

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server answers and has finished its start."""

    @abstractmethod
    def _is_ours(self) -> bool:
        """Return whether the server there runs on our files. Raises `DependencyDownError` for another program."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write the files of a start."""

    def start(self) -> bool:
        """Return True once the server is ready.

        Raises:
            UsageError: another process uses the port.
            DependencyDownError: the server stopped or was not ready in time; the message ends with its log.
            StorageError: its files cannot be written.
        """
        self._port.take_alone()
        return self._launch()

    def stop(self) -> None:
        """Stop the server that `start` started; its data stay for the next start."""
        with ExitStack() as stack:
            stack.callback(self._port.release)
            if self.child is not None:
                self._port.note(self.child)
                stack.callback(self.child.stop)
                self.child = None
                self._finish()

    def _finish(self) -> None:  # noqa: B027 - most servers end without more
        """Prepare the end of the server."""

    def _launch(self) -> bool:
        with ExitStack() as unless_ready:
            unless_ready.callback(self._port.release)
            if not is_free(self._port.number):
                self._require_ours()
                raise UsageError(
                    f"Our {self.name} on {self.address} runs, but no command of this cache owns it.",
                    f"Stop it: {find_listener(self._port.number)}.",
                )
            self._prepare()
            child = ChildProcess(self._argv, self._log, self._environment)
            self._port.note(child)
            await_ready(child, self.is_ready, self.ready_seconds, self.name, self.address, remedy=self.remedy)
            unless_ready.pop_all()
        self.child = child
        self._port.note(child, is_ready=True)
        return True

    def _require_ours(self) -> None:
        try:
            if self._is_ours():
                return
        except DependencyDownError as error:
            if owner := self._port.owner:
                raise DependencyDownError(
                    f"The {self.name} of {owner} does not answer.", "Stop that command, then try again."
                ) from error
            raise UsageError(
                f"Address {self.address} is in use, but not by {self.name}.", f"Pick another with {self._flag}."
            ) from error
        raise UsageError(
            f"Another {self.name} is already listening on {self.url}: {find_listener(self._port.number)}.",
            f"Stop it, or pick another port with {self._flag}.",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class SharedServer(LocalServer):
    """A server that commands use one after the other, each with its own configuration.

    As a context manager it serves this command alone: it waits for the command that uses it now. `start` and `stop`
    leave it to other commands.
    """

    def __init__(self, cache: Path, port: int, by: Requester, *, config: str, users: Path | None = None) -> None:
        super().__init__(cache, port, by)
        self._config = self._folder / config
        self._users, self._by = FileLock(users or self._folder, f"{self.name} on port {port}"), by
        self._stack = ExitStack()
        self._before: str | None = None

    @abstractmethod
    def _configure(self, theirs: str | None = None) -> None:
        """Write our configuration; `theirs` is that of the command which runs the server."""

    @abstractmethod
    def _reload(self) -> None:
        """Have the server read its configuration again."""

    def start(self, *, shares: bool = True) -> bool:
        """Return True once the server is ready, False if it reuses one that another command runs.

        A reused server gets our configuration until `stop`, which restores the other command's and leaves it running.

        Args:
            shares: whether a server that another command runs will do.

        Raises:
            UsageError: another process uses the port, or another command runs a server that will not do.
            DependencyDownError: the server stopped or was not ready in time; the message ends with its log.
            StorageError: its files cannot be written.
        """
        if not shares:
            return super().start()
        if self._port.take(self.ready_seconds):
            return self._launch()
        self._require_ours()
        self._before = self._config.read_text()
        self._configure(self._before)
        self._reload()
        return False

    def stop(self) -> None:
        """Stop the server that `start` started, or restore the configuration of one that was reused.

        Raises:
            DependencyDownError: a reused server does not accept its configuration.
            StorageError: the configuration cannot be written.
        """
        super().stop()
        if self._before is not None:
            atomic_file.write(self._config, self._before)
            self._before = None
            if self.is_ready():
                self._reload()

    def __enter__(self) -> Self:
        with self._stack as stack:
            stack.enter_context(self._users.acquire(by=self._by))
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            self.stop()
