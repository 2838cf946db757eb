"""Files that are whole or not there: written beside their place, forced to the disk, then renamed; by one process."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from workload.errors import StorageError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

OWNER_ONLY = 0o600


def write(path: Path, data: str | bytes) -> Path:
    """Write a file that only its owner may read, and return its path; missing folders are made.

    Whoever reads it finds what was there before or all of `data`, also after a crash or a power cut.

    Raises:
        StorageError: it could not be written; what was there before is untouched.
    """
    draft = path.with_name(f"{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, OWNER_ONLY)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data.encode() if isinstance(data, str) else data)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)  # on a full disk it takes the space that the next attempt needs
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", "Free some space, then run again."
        ) from error
    return path


def hold(folder: Path) -> int:
    """Take a folder for this process alone; return a descriptor, which gives it back when closed, or by our death.

    Raises:
        UsageError: another process has it.
        OSError: there is no such folder, or it cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(f"Another process is writing to {folder}.", "Wait for its end, or stop it.") from error
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk: the new name is an entry of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
