"""Who may load the engine: one experiment alone, or the continuous load while no experiment wants it."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workload.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TextIO

FILE = ".claim"


class Claim:
    """A lock in the folder that all who load one engine share, the one of Prometheus' targets.

    The kernel lets go of it when a process ends, however it ends, so nobody waits for a run that was killed.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    @contextmanager
    def alone(self, waiting: Callable[[], object]) -> Iterator[None]:
        """Hold the engine for an experiment; `waiting` is called once if somebody else has it, and then waited for.

        Raises:
            StorageError: the lock cannot be made.
        """
        with self._open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def shared(self) -> Iterator[bool]:
        """Hold the engine for one question of the continuous load; the value says whether it may be asked.

        Raises:
            StorageError: the lock cannot be made.
        """
        with self._open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _open(self) -> TextIO:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._path.open("a")
        except OSError as error:
            raise StorageError(
                f"Cannot open {self._path}: {error.strerror}.", "Free space, or mend its permissions."
            ) from error
